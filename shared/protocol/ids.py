"""Device ids, file names and the other identifiers that come from outside.

A device id is a token subject, a query value, a folder, a Redis key and a log field at once, and some of the stores it
becomes a folder in fold case or reserve names. So one narrow grammar holds everywhere, and what does not fit is
refused, never folded or escaped into shape. Every process checks with the functions here.
"""

import re
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from random import Random

__all__ = [
    "FILE_NAME_MAX_BYTES",
    "InvalidId",
    "check_device_id",
    "check_file_name",
    "device_class_problem",
    "device_id_problem",
    "file_name_problem",
    "is_reserved_name",
    "safe_stem",
    "time_ordered_uuid",
]

FILE_NAME_MAX_BYTES: Final = 200

_DEVICE_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
_DEVICE_CLASS: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
# Names that Windows, and with it SharePoint and OneDrive, reserve, alone or before an extension.
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}
)


class InvalidId(ValueError):
    """An identifier from outside does not fit its grammar. `str()` names what is wrong and how to mend it."""


def is_reserved_name(name: str) -> bool:
    """Whether a folder or file of this name cannot exist on every store (`con`, `lpt1.txt`, …)."""
    return name.lower().split(".", 1)[0].rstrip(" ") in _RESERVED


def device_class_problem(device_class: str) -> str | None:
    """What is wrong with the name of a device class, as a sentence, or None."""
    if _DEVICE_CLASS.fullmatch(device_class) is None:
        return "class must begin with a-z and hold 1 to 32 characters of a-z 0-9 _ -"
    return None


def device_id_problem(device_id: str) -> str | None:
    """What is wrong with a device id, as a sentence for the person who sent it, or None."""
    if not device_id:
        return "device_id is empty; use 1 to 64 characters of a-z 0-9 . _ -"
    if len(device_id) > 64:
        return f"device_id has {len(device_id)} characters; use at most 64"
    if _DEVICE_ID.fullmatch(device_id) is None:
        return "device_id may hold only a-z 0-9 . _ - (lower case) and must begin and end with a letter or digit"
    if ".." in device_id:
        return "device_id must not contain '..'"
    if is_reserved_name(device_id):
        return "device_id is a name that cloud stores reserve (con, prn, aux, nul, com1-9, lpt1-9); choose another"
    return None


def check_device_id(device_id: str) -> str:
    """The id itself when it is legal. Raises InvalidId."""
    if problem := device_id_problem(device_id):
        raise InvalidId(problem)
    return device_id


def file_name_problem(name: str) -> str | None:
    """What is wrong with one path component, as a sentence, or None. Names are UTF-8 and at most 200 bytes."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "file name is not UTF-8; rename it"
    if not encoded:
        return "file name is empty"
    if len(encoded) > FILE_NAME_MAX_BYTES:
        return f"file name has {len(encoded)} bytes; use at most {FILE_NAME_MAX_BYTES}"
    if name in (".", "..") or "/" in name or "\\" in name:
        return "file name must be one path component without '/', '\\' or '..'"
    if any(ord(c) < 0x20 or ord(c) == 0x7F or 0x80 <= ord(c) < 0xA0 for c in name):
        return "file name holds a control character; rename it"
    return None


def check_file_name(name: str) -> str:
    """The name itself when it is safe as one path component. Raises InvalidId."""
    if problem := file_name_problem(name):
        raise InvalidId(problem)
    return name


def safe_stem(name: str, *, max_bytes: int) -> str:
    """The name without its extension, fit to begin a folder name on every store, at most `max_bytes` of UTF-8."""
    stem = name.rsplit(".", 1)[0] or name
    stem = "".join("_" if c in '"*:<>?|\\/' or ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 else c for c in stem)
    stem = stem.encode()[: max_bytes - 1].decode(errors="ignore").strip(" .")
    return f"_{stem}" if not stem or is_reserved_name(stem) else stem


def time_ordered_uuid(now: float, rand: "Random") -> UUID:
    """A UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, the rest random.

    `now` is wall-clock seconds; `rand` should be `random.SystemRandom()` outside tests. Time order keeps index inserts
    at one end of the B-tree.
    """
    milliseconds = int(now * 1000) & (1 << 48) - 1
    value = milliseconds << 80 | rand.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
