"""Named SQL statements, one file per subject.

A statement begins with `-- name: what_it_is` and ends where the next begins; the comment lines under the name say what
it is for. Python only fills the parameters.
"""

from functools import cache
from pathlib import Path

__all__ = ["statements"]

_MARK = "-- name: "


@cache
def statements(subject: str) -> dict[str, str]:
    """All statements of `<subject>.sql` by name. Raises ValueError for a malformed file."""
    text = (Path(__file__).parent / f"{subject}.sql").read_text("utf-8")
    found: dict[str, str] = {}
    for part in text.split(_MARK)[1:]:
        name, _, body = part.partition("\n")
        name = name.strip()
        if not name.isidentifier() or name in found or not body.strip():
            raise ValueError(f"{subject}.sql: statement {name!r} is misnamed, empty or there twice")
        found[name] = body.strip()
    if not found:
        raise ValueError(f"{subject}.sql holds no '{_MARK}…'")
    return found
