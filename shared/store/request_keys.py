"""Keys of whole requests: who may do one now, and what its answer was.

A claim is for a time. Its holder answers within it, or the key is left for the next one that brings the same request;
a holder that comes too late finds that the key is not its own any more.
"""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "KEPT",
    "Claim",
    "Standing",
    "Stored",
    "answer",
    "answer_within",
    "claim",
    "get",
    "give_up",
    "prune",
    "take_over",
]

_SQL = statements("request_keys")

KEPT: Final = timedelta(hours=24)


class Claim(NamedTuple):
    """A key that is ours until `locked_until`, first used at `created_at`. `used`: the caller's keys today, if new."""

    principal: str
    key: str
    locked_until: datetime
    created_at: datetime
    used: int = 0
    now: datetime | None = None


class Stored(NamedTuple):
    """An answer: `headers` is a JSON list of pairs."""

    status: int
    headers: str
    body: bytes


class Standing(NamedTuple):
    """What stands under a key that could not be claimed. `is_free`: it may be taken over. Times as in `Claim`."""

    fingerprint: bytes
    stored: Stored | None
    is_free: bool
    is_old: bool
    created_at: datetime


async def claim(pool: Pool, principal: str, key: str, fingerprint: bytes, *, lock_s: float) -> Claim | None:
    """The key, if nobody has used it."""
    rows = await pool.fetch(_SQL["claim"], principal, key, fingerprint, timedelta(seconds=lock_s))
    return Claim(principal, key, *rows[0]) if rows else None


async def get(pool: Pool, principal: str, key: str) -> Standing | None:
    """What stands under the key; None when it was given up meanwhile."""
    rows = await pool.fetch(_SQL["get"], principal, key, KEPT)
    if not rows:
        return None
    fingerprint, status, headers, body, is_left, is_old, created_at = rows[0]
    stored = None if status is None else Stored(status, headers, body)
    return Standing(fingerprint, stored, is_old or (stored is None and bool(is_left)), is_old, created_at)


async def take_over(pool: Pool, principal: str, key: str, fingerprint: bytes, *, lock_s: float) -> Claim | None:
    """The key, if it is free and, unless it is old, was used for the same request."""
    rows = await pool.fetch(_SQL["take_over"], principal, key, fingerprint, timedelta(seconds=lock_s), KEPT)
    return Claim(principal, key, *rows[0]) if rows else None


async def answer(pool: Pool, held: Claim, stored: Stored) -> bool:
    """Keep the answer. False when the claim was over."""
    return bool(await pool.fetch(_SQL["answer"], *held[:3], *stored))


async def answer_within(connection: Connection, held: Claim, stored: Stored) -> bool:
    """`answer` in the transaction of the effect: they are there together or not at all."""
    return bool(await connection.fetch(_SQL["answer"], *held[:3], *stored))


async def give_up(pool: Pool, held: Claim) -> None:
    """The request had no effect worth keeping: the key is free again."""
    await pool.fetch(_SQL["give_up"], *held[:3])


async def prune(pool: Pool, *, rows: int = 5000) -> int:
    """Delete keys whose time is over, in short statements. Returns how many."""
    deleted = 0
    while count := (await pool.fetch(_SQL["prune"], KEPT, rows))[0][0]:
        deleted += count
    return deleted
