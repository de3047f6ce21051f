"""Names in cloud stores, claimed before anything of that name is made.

`claim` counts on in a series: 200 writers of one name get 200 versions in a row, one short transaction each, and none
of them probes the store. The same content gets the version that it has. A claim is no right: the store still refuses
what exists, and what was found there is told by `found`. A claim that came to nothing lapses and its number is given
out again, so that versions stay contiguous. `claim_alone` is for stores in which names are not unique: there the row,
with the object id that it keeps, is what makes a name unique.
"""

from typing import NamedTuple

from shared.cloud.hashes import Digest
from shared.cloud.naming import name_key, version_name
from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "TRANSACTION_STATEMENTS",
    "Holder",
    "Version",
    "claim",
    "claim_alone",
    "forget",
    "found",
    "holder_of",
    "release",
    "renew",
    "replace",
    "settle",
]

_SQL = statements("cloud_names")

TRANSACTION_STATEMENTS = tuple(_SQL[name] for name in ("lock_series", "choices", "join", "take_over", "add"))
"""What a claim runs, for every connection to know before it holds a lock."""

_SKIP_MAX = 1_000


class Version(NamedTuple):
    """A claimed version: its name in the folder. `stored`: it is known to lie there."""

    name: str
    number: int
    object_id: str | None
    stored: bool


class Holder(NamedTuple):
    """Who has a name: the object, and what is known of it. `lapsed`: it was to be there by now and is not known to."""

    name: str
    number: int | None
    object_id: str | None
    stored: bool
    size: int | None
    sha256: str | None
    lapsed: bool = False


async def claim(pool: Pool, store: str, folder: str, name: str, content: Digest, *, ttl_s: float) -> Version:
    """The version of `name` that this content has, or a new one for `ttl_s` seconds and longer by `renew`."""
    series = name_key(name)

    async def work(connection: Connection) -> Version:
        where = (store, folder, series)
        await connection.execute(_SQL["lock_series"], *where)
        same, lapsed, newest = await connection.fetchrow(_SQL["choices"], *where, content.sha256, content.size)
        if same is not None:
            return _version(await connection.fetchrow(_SQL["join"], *where, same, ttl_s))
        what = (content.sha256, content.size, ttl_s)
        if lapsed is not None:
            return _version(await connection.fetchrow(_SQL["take_over"], *where, lapsed, *what))
        # A number is skipped only when its name is the first of another series: somebody named a file `x (v2)` by hand.
        for number in range(newest + 1, newest + 1 + _SKIP_MAX):
            made = version_name(name, number)
            row = await connection.fetchrow(_SQL["add"], store, folder, name_key(made), made, series, number, *what)
            if row is not None:
                return _version(row)
        raise AssertionError(f"{_SKIP_MAX} names in a row belong to other series")

    return await pool.run(work, repeatable=True)


async def renew(pool: Pool, store: str, folder: str, name: str, content: Digest, *, ttl_s: float) -> None:
    """Work on it goes on."""
    await pool.fetch(_SQL["renew"], store, folder, name_key(name), content.sha256, ttl_s, repeatable=True)


async def found(pool: Pool, store: str, folder: str, name: str, content: Digest | None) -> None:
    """What lies there under the name; None: something of unknown content."""
    size, sha256 = (content.size, content.sha256) if content is not None else (None, None)
    await pool.fetch(_SQL["found"], store, folder, name_key(name), size, sha256, repeatable=True)


async def claim_alone(pool: Pool, store: str, folder: str, name: str, object_id: str, *, ttl_s: float) -> Holder:
    """Claim a name for an object that may not exist yet. Whoever came first is told; compare the object id."""
    where = (store, folder, name_key(name))

    async def work(connection: Connection) -> Holder | None:
        await connection.execute(_SQL["claim_alone"], *where, name, object_id, ttl_s)
        row = await connection.fetchrow(_SQL["holder"], *where)
        if row is None:
            return None
        return _holder(row)

    # Gone between the two statements: it was released, and is free again.
    for _ in range(10):
        if (holder := await pool.run(work, repeatable=True)) is not None:
            return holder
    raise AssertionError("released ten times in the moment in which it was claimed")


async def holder_of(pool: Pool, store: str, folder: str, name: str) -> Holder | None:
    """Who has a name, if anybody."""
    rows = await pool.fetch(_SQL["holder"], store, folder, name_key(name))
    return _holder(rows[0]) if rows else None


async def replace(pool: Pool, store: str, folder: str, name: str, *, old: str, new: str, ttl_s: float) -> bool:
    """Give a name that object `old` does not need any more to object `new`; False when it is not `old`'s."""
    where = (store, folder, name_key(name))
    return bool(await pool.fetch(_SQL["replace"], *where, old, new, name, ttl_s))


async def settle(pool: Pool, store: str, folder: str, name: str, object_id: str) -> bool:
    """The object lies under its name; False when the name is not its own (any more)."""
    return bool(await pool.fetch(_SQL["settle"], store, folder, name_key(name), object_id, repeatable=True))


async def release(pool: Pool, store: str, folder: str, name: str, *, object_id: str | None = None) -> None:
    """The object of that name is gone, or was never made. With an id, another's row is left alone."""
    await pool.fetch(_SQL["release"], store, folder, name_key(name), object_id, repeatable=True)


async def forget(pool: Pool, *, older_than_s: float, limit: int = 1_000) -> int:
    """Remove claims that came to nothing that long ago; how many. What was made late is found when it is met."""
    return len(await pool.fetch(_SQL["forget"], older_than_s, limit))


def _holder(row: tuple[str, int | None, str | None, str, int | None, str | None, bool]) -> Holder:
    name, number, object_id, state, size, sha256, lapsed = row
    return Holder(name, number, object_id, state == "stored", size, sha256, lapsed)


def _version(row: tuple[str, int, str | None, str]) -> Version:
    name, number, object_id, state = row
    return Version(name, number, object_id, state == "stored")
