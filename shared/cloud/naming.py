"""Names that count on instead of overwriting [pure]: `photo.jpg`, `photo (v2).jpg`, `photo (v3).jpg`, …

A series is all versions of one name in one folder. Two names have one key when any store would take them for the same:
SharePoint folds case, and a Mac writes its accents in another form. Counting by keys costs the stores that do tell such
names apart nothing but a number.
"""

import unicodedata
from typing import Final

from shared.protocol.ids import FILE_NAME_MAX_BYTES

__all__ = ["name_key", "version_name"]

_EXTENSION_MAX: Final = 16


def name_key(name: str) -> str:
    """The same for all names that some store would take for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def version_name(name: str, version: int) -> str:
    """The name of a version: the first has the name itself. Long stems are cut, so that it stays a legal name."""
    if version < 1:
        raise ValueError(f"version {version}: versions begin at 1")
    if version == 1:
        return name
    stem, extension = _split(name)
    tail = f" (v{version}){extension}"
    room = FILE_NAME_MAX_BYTES - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(" ") + tail


def _split(name: str) -> tuple[str, str]:
    """Stem and extension with its dot. A name that begins with its only dot, or ends with one, has no extension."""
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem.strip(".") or not extension or len(extension) > _EXTENSION_MAX or " " in extension:
        return name, ""
    return stem, dot + extension
