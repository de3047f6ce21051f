"""Where a path in a cloud folder belongs [pure]: to which device and area, to nobody, or to the refused.

The layout is `Requests/{device_id}/…` and `Responses/{device_id}/…`, files in sub-folders included. Whoever can write
into the folder chooses names, so each component is checked before it becomes a row, a log field or a path to open.
Names that are not UTF-8 come with surrogate escapes, as the operating system gives them.
"""

from dataclasses import dataclass
from typing import Final, Literal

from shared.protocol.ids import device_id_problem, file_name_problem

Area = Literal["request", "response"]
RefusalReason = Literal[
    "device_id", "file_name", "depth", "length", "misplaced", "link", "special", "unreadable", "store"
]

AREAS: Final[dict[str, Area]] = {"Requests": "request", "Responses": "response"}
DEPTH_MAX: Final = 8
"""Components below the device's folder."""
PATH_MAX_BYTES: Final = 1024

_IGNORED_SUFFIXES: Final = (".tmp", ".part", "~")


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder below a device's folder, or that folder itself (then `name` is empty)."""

    path: str
    area: Area
    device_id: str
    name: str
    top_folder: str | None
    """The path of the outermost folder below the device's that holds the file; jobs reserve these."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A path that is not taken. `path` may hold anything: escape it before it is shown."""

    path: str
    reason: RefusalReason
    detail: str


def ignored(name: str) -> bool:
    """Whether a name says that the file is hidden or not finished."""
    return name.startswith(".") or name.lower().endswith(_IGNORED_SUFFIXES)


def locate(path: str) -> Place | Refused | None:
    """Where a path relative to the root belongs; None for what is none of our business."""
    parts = path.split("/")
    area = AREAS.get(parts[0])
    if area is None or any(ignored(part) for part in parts[1:]):
        return None
    if len(parts) < 2:
        return Refused(path, "misplaced", "files belong into a device's folder")
    if problem := device_id_problem(parts[1]):
        return Refused(path, "device_id", problem)
    if len(parts) - 2 > DEPTH_MAX:
        return Refused(path, "depth", f"file lies more than {DEPTH_MAX} levels below the device's folder")
    for part in parts[2:]:
        if problem := file_name_problem(part):
            return Refused(path, "file_name", problem)
    if len(path.encode()) > PATH_MAX_BYTES:
        return Refused(path, "length", f"path has more than {PATH_MAX_BYTES} bytes")
    top_folder = "/".join(parts[:3]) if len(parts) > 3 else None
    return Place(path, area, parts[1], parts[-1] if len(parts) > 2 else "", top_folder)


def shown(path: str, limit: int = 300) -> str:
    """A path fit for a log line: one line, ASCII, of bounded length."""
    text = ascii(path)[1:-1]
    return text if len(text) <= limit else text[: limit - 3] + "..."
