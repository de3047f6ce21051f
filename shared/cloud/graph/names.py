"""Names that SharePoint takes, and paths as its addresses have them [pure]."""

from typing import Final
from urllib.parse import quote

from shared.cloud.errors import BadPath
from shared.cloud.paths import split_path

__all__ = ["checked", "encoded"]

_FORBIDDEN: Final = frozenset('"*:<>?/\\|')
_NAMES: Final = frozenset({".lock", "desktop.ini"})
_PATH_MAX: Final = 400


def checked(path: str) -> tuple[str, ...]:
    """The parts of a path that is to be made. Raises BadPath for a name that SharePoint would refuse."""
    parts = split_path(path)
    for name in parts:
        if problem := _problem(name):
            raise BadPath(f"path {path[:300]!r}: SharePoint takes no name that {problem}")
    if len(path) > _PATH_MAX:
        raise BadPath(f"path {path[:300]!r}: SharePoint takes at most {_PATH_MAX} characters")
    return parts


def encoded(path: str) -> str:
    """Inside an address."""
    return "/".join(quote(part, safe="") for part in path.split("/"))


def _problem(name: str) -> str | None:
    if _FORBIDDEN & set(name):
        return 'has one of " * : < > ? / \\ |'
    if name != name.strip() or name.endswith("."):
        return "begins or ends with a space, or ends with a dot"
    if name.startswith("~$") or "_vti_" in name or name.lower() in _NAMES:
        return "is kept for its own files"
    return None
