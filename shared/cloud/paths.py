"""Paths inside a store [pure]: relative, POSIX, UTF-8, every component checked before anything is opened.

`Requests/truck-7/photo.jpg` is a path; `/Requests`, `a//b`, `a/../b` and `a/` are not. The empty path is the root and
only names a folder.
"""

from typing import Final

from shared.cloud.errors import BadPath
from shared.protocol.ids import file_name_problem

MAX_COMPONENTS: Final = 16

Parts = tuple[str, ...]


def split_path(path: str) -> Parts:
    """The components of a file's path. Raises BadPath."""
    parts = tuple(path.split("/"))
    if len(parts) > MAX_COMPONENTS:
        raise BadPath(f"path has {len(parts)} components; use at most {MAX_COMPONENTS}")
    for part in parts:
        if problem := file_name_problem(part):
            raise BadPath(f"path {path[:300]!r}: {problem}")
    return parts


def split_folder(path: str) -> Parts:
    """The components of a folder's path; the empty path is the root. Raises BadPath."""
    return split_path(path) if path else ()
