"""Leases: one owner per name, fenced by a term that only Postgres gives.

The lease says who may begin; the term decides what counts. An owner that was stopped and wakes up late may still
believe that it owns a feed, but its transaction begins with `fence`, which finds another term and refuses. Expiry is
judged by the database's clock alone. Redis holds a lock of the same name beside this (see `shared.bus`): it only keeps
rivals from trying.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from shared.store.errors import TermOver
from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = ["Holder", "alone", "claim", "ensure", "fence", "fence_all", "holders", "release", "renew"]

_SQL = statements("leases")


class Holder(NamedTuple):
    """Who holds a lease and for how many seconds more (negative or -inf: nobody)."""

    name: str
    owner: str | None
    term: int
    remaining_s: float


async def ensure(pool: Pool, names: Sequence[str]) -> None:
    """Make the rows; they are never deleted, so a term never starts over."""
    await pool.fetch(_SQL["ensure"], list(names))


async def claim(pool: Pool, names: Sequence[str], owner: str, *, ttl_s: float, limit: int) -> dict[str, int]:
    """Take free leases among `names`, at most `limit`. Returns their new terms."""
    rows = await pool.fetch(_SQL["claim"], list(names), owner, ttl_s, limit)
    return {row["name"]: row["term"] for row in rows}


async def renew(pool: Pool, owner: str, held: Mapping[str, int], *, ttl_s: float) -> set[str]:
    """Extend leases held under the given terms. What is missing from the answer is lost."""
    if not held:
        return set()
    rows = await pool.fetch(_SQL["renew"], owner, list(held), list(held.values()), ttl_s)
    return {row["name"] for row in rows}


async def release(pool: Pool, owner: str, held: Mapping[str, int]) -> None:
    """Give leases back, so that another may claim them at once."""
    if held:
        await pool.fetch(_SQL["release"], owner, list(held), list(held.values()))


@asynccontextmanager
async def alone(pool: Pool, name: str, owner: str, *, ttl_s: float) -> AsyncIterator[bool]:
    """Whether the caller holds the lease for this block, which is then given back.

    For work that does no harm when two do it, only double work: nothing is fenced.
    """
    await ensure(pool, [name])
    held = await claim(pool, [name], owner, ttl_s=ttl_s, limit=1)
    try:
        yield bool(held)
    finally:
        await release(pool, owner, held)


async def fence(connection: Connection, name: str, term: int) -> None:
    """Hold the term until the transaction ends.

    Raises TermOver, and then nothing of the transaction may be committed.
    """
    if await connection.fetchrow(_SQL["fence"], name, term) is None:
        raise TermOver(f"lease {name}: term {term} is over")


async def fence_all(connection: Connection, terms: Mapping[str, int]) -> frozenset[str]:
    """Hold the terms that stand until the transaction ends, and say which: for no other may anything be written."""
    rows = await connection.fetch(_SQL["fence_all"], list(terms), list(terms.values()))
    return frozenset(row["name"] for row in rows)


async def holders(pool: Pool, names: Sequence[str]) -> list[Holder]:
    """Who holds what, for status pages and tests."""
    return [Holder(*row) for row in await pool.fetch(_SQL["holders"], list(names))]
