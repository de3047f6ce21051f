"""Moves between places in cloud stores, each by a row that says how far it came.

A move is named by its four ends, so whoever wants the same one finds the row of the one before. begun: nothing of the
source is gone. copied: all of it lies at `landed`, verified, and the source may go. ended: the source is gone; the row
stays a while to say so.
"""

import hashlib
from typing import Literal, NamedTuple

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["Ends", "MoveRow", "begin", "find", "forget", "note", "prune"]

_SQL = statements("cloud_moves")


class Ends(NamedTuple):
    """From where to where."""

    from_store: str
    from_path: str
    to_store: str
    to_path: str

    @property
    def key(self) -> bytes:
        """Equal for equal ends only: each text is preceded by its length."""
        texts = [text.encode() for text in self]
        return hashlib.sha256(b"".join(len(text).to_bytes(4) + text for text in texts)).digest()


class MoveRow(NamedTuple):
    """How far a move came. `landed` is the path of the copy; the version is that of the source."""

    from_version: str
    size: int
    sha256: str | None
    landed: str | None
    state: Literal["begun", "copied", "ended"]


async def find(pool: Pool, ends: Ends) -> MoveRow | None:
    """The row of a move between these ends, if there is one."""
    rows = await pool.fetch(_SQL["find"], ends.key)
    return MoveRow(*rows[0]) if rows else None


async def begin(pool: Pool, ends: Ends, *, version: str, size: int, sha256: str | None) -> None:
    """Before anything is moved. One of this version that is under way goes on."""
    await pool.fetch(_SQL["begin"], ends.key, *ends, version, size, sha256, repeatable=True)


async def note(
    pool: Pool, ends: Ends, state: Literal["copied", "ended"], *, version: str, landed: str, sha256: str | None
) -> None:
    """How far it came."""
    await pool.fetch(_SQL["note"], ends.key, version, state, landed, sha256, repeatable=True)


async def forget(pool: Pool, ends: Ends, *, version: str) -> None:
    """It came to nothing."""
    await pool.fetch(_SQL["forget"], ends.key, version, repeatable=True)


async def prune(pool: Pool, *, older_than_s: float, limit: int = 1_000) -> int:
    """Remove rows of moves that ended so long ago; how many."""
    return len(await pool.fetch(_SQL["prune"], older_than_s, limit))
