"""Which object has a name in a folder: Google Drive lets names repeat, so the claim in Postgres decides.

A claim names the object by an id that was made beforehand. Whoever claimed may die before the object is made: the next
one makes it, under that id, and Drive lets only one of them. A claim is not right for ever, since people rename, move
and delete: it counts while its object lies there, or is on its way there and the claim has not lapsed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from shared.cloud.drive import wire
from shared.cloud.drive.client import DriveClient
from shared.cloud.errors import Misconfigured, NotFound, StoreBusy
from shared.store import cloud_names
from shared.store.cloud_names import Holder
from shared.store.pool import Pool

__all__ = ["Claims", "NoClaims", "PostgresClaims", "PremadeIds", "found_by_name", "one_of"]

CLAIM_S: Final = 600.0
"""Longer than any request takes, retries included: who is still on the way after that has to look again."""
_CLAIMS_AT_ONCE: Final = 4
_TURN_S: Final = 30.0
_IDS_AT_ONCE: Final = 100
_SEARCH_PAGE: Final = 100


class Claims(Protocol):
    """Claims on names, by folder id. They outlive the process."""

    async def claim(self, folder_id: str, name: str, object_id: str) -> Holder:
        """Claim; the answer says whose the name is."""
        ...

    async def holder(self, folder_id: str, name: str) -> Holder | None:
        """Whose it is."""
        ...

    async def replace(self, folder_id: str, name: str, *, old: str, new: str) -> bool:
        """Give it from one object to another."""
        ...

    async def settle(self, folder_id: str, name: str, object_id: str) -> bool:
        """The object lies there; False when the name is not its own any more."""
        ...

    async def release(self, folder_id: str, name: str, object_id: str) -> None:
        """The object does not lie there."""
        ...


class PostgresClaims:
    """The claims of one store. A few at a time, so that many files at once leave connections for everybody else."""

    def __init__(self, pool: Pool, store: str, *, at_once: int = _CLAIMS_AT_ONCE) -> None:
        self._pool = pool
        self._store = store
        self._turns = asyncio.Semaphore(at_once)

    async def claim(self, folder_id: str, name: str, object_id: str) -> Holder:
        """See Claims."""
        async with self._turn():
            return await cloud_names.claim_alone(
                self._pool, self._store, f"id:{folder_id}", name, object_id, ttl_s=CLAIM_S
            )

    async def holder(self, folder_id: str, name: str) -> Holder | None:
        """See Claims."""
        async with self._turn():
            return await cloud_names.holder_of(self._pool, self._store, f"id:{folder_id}", name)

    async def replace(self, folder_id: str, name: str, *, old: str, new: str) -> bool:
        """See Claims."""
        folder = f"id:{folder_id}"
        async with self._turn():
            return await cloud_names.replace(self._pool, self._store, folder, name, old=old, new=new, ttl_s=CLAIM_S)

    async def settle(self, folder_id: str, name: str, object_id: str) -> bool:
        """See Claims."""
        async with self._turn():
            return await cloud_names.settle(self._pool, self._store, f"id:{folder_id}", name, object_id)

    async def release(self, folder_id: str, name: str, object_id: str) -> None:
        """See Claims."""
        async with self._turn():
            await cloud_names.release(self._pool, self._store, f"id:{folder_id}", name, object_id=object_id)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_TURN_S):
                await self._turns.acquire()
        except TimeoutError:
            raise StoreBusy(f"{self._store}: too many names are being claimed") from None
        try:
            yield
        finally:
            self._turns.release()


class NoClaims:
    """Where there is no Postgres: what is there can be read, and nothing is put."""

    async def claim(self, folder_id: str, name: str, object_id: str) -> Holder:
        """Raises Misconfigured."""
        raise Misconfigured("names in Google Drive are claimed in Postgres: set FLEETWIRE_DATABASE_URL")

    async def holder(self, folder_id: str, name: str) -> Holder | None:
        """Nobody known."""
        return None

    async def replace(self, folder_id: str, name: str, *, old: str, new: str) -> bool:
        """Nobody had it."""
        return False

    async def settle(self, folder_id: str, name: str, object_id: str) -> bool:
        """Nobody has it."""
        return False

    async def release(self, folder_id: str, name: str, object_id: str) -> None:
        """Nothing to do."""


class PremadeIds:
    """Ids for files to come, asked for by the hundred. One that was not used is no loss."""

    def __init__(self, client: DriveClient) -> None:
        self._client = client
        self._left: list[str] = []

    async def next(self) -> str:
        """One that nobody else gets."""
        while not self._left:
            # Two may ask at once; then there are two hundred.
            self._left.extend(await self._client.ids(_IDS_AT_ONCE))
        return self._left.pop()


async def found_by_name(client: DriveClient, folder_id: str, name: str) -> list[wire.File]:
    """What lies in a folder under a name, the exact name first, then the oldest."""
    query = f"{wire.quoted(folder_id)} in parents and name = {wire.quoted(name)} and trashed = false"
    try:
        page = await client.files(query, size=_SEARCH_PAGE)
    except NotFound:
        # The folder is gone.
        return []
    found = [one for one in page.files if one.lies_in(folder_id, name)]
    return sorted(found, key=lambda one: (one.name != name, one.created_time or "", one.id))


def one_of(found: list[wire.File], suits: Callable[[wire.File], bool]) -> wire.File | None:
    """The first that suits, else the first of all: what it is, is then for the caller to refuse."""
    return next(filter(suits, found), found[0] if found else None)
