"""The journal of uploads in Postgres: whichever process brings the same content to the same place goes on with it.

`give_up_left` ends at the stores what nobody goes on with: parts that lie there cost money and are seen by no listing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random, SystemRandom
from typing import Final

import structlog

from shared import clock
from shared.cloud.errors import CloudError, NotFound
from shared.cloud.hashes import Digest
from shared.cloud.provider import Provider, Upload
from shared.cloud.transfer_journal import Entry
from shared.protocol.ids import time_ordered_uuid
from shared.store import cloud_uploads
from shared.store.cloud_uploads import Held
from shared.store.errors import StoreError
from shared.store.pool import Pool

__all__ = ["LEASE_S", "RowJournal", "give_up_left"]

_log = structlog.get_logger(__name__)

LEASE_S: Final = 60.0
_GIVE_BACK_S: Final = 2.0


class RowJournal:
    """A row per upload."""

    def __init__(self, pool: Pool, *, lease_s: float = LEASE_S, rand: Random | None = None) -> None:
        self._pool = pool
        self._lease_s = lease_s
        self._rand = rand or SystemRandom()

    @asynccontextmanager
    async def hold(self, store: str, path: str, content: Digest) -> AsyncIterator[Entry]:
        """See Journal. Raises what the pool does."""
        upload_id = time_ordered_uuid(clock.wall(), self._rand)
        held = await cloud_uploads.hold(self._pool, upload_id, store, path, content, lease_s=self._lease_s)
        try:
            yield _Row(self._pool, held, path, content.size, self._lease_s)
        finally:
            # Also by who is being cancelled; who cannot leaves it to the lease.
            await _tried(lambda: asyncio.wait_for(cloud_uploads.give_back(self._pool, held), _GIVE_BACK_S))


class _Row:
    def __init__(self, pool: Pool, held: Held, path: str, size: int, lease_s: float) -> None:
        self._pool = pool
        self._held = held
        self._lease_s = lease_s
        self.upload = None if held.session is None else Upload(path, size, held.session, held.expires_at)

    async def save(self, upload: Upload | None) -> None:
        session, expires_at = (None, None) if upload is None else (upload.state, upload.expires_at)
        await _tried(lambda: cloud_uploads.save(self._pool, self._held, session, expires_at, lease_s=self._lease_s))

    async def beat(self) -> None:
        await _tried(lambda: cloud_uploads.beat(self._pool, self._held, lease_s=self._lease_s))

    async def ended(self) -> None:
        await _tried(lambda: cloud_uploads.ended(self._pool, self._held))

    async def quarantined(self, detail: str) -> None:
        await _tried(lambda: cloud_uploads.quarantine(self._pool, self._held, detail))


async def _tried(write: Callable[[], Awaitable[None]]) -> None:
    """What cannot be written down costs the resume, not the upload."""
    try:
        await write()
    except (StoreError, TimeoutError) as error:
        _log.warning("what an upload did so far was not written down", error=str(error))


async def give_up_left(
    pool: Pool, provider: Provider, *, older_than_s: float, limit: int = 20, lease_s: float = LEASE_S
) -> int:
    """Give up, at one store, uploads with which nobody went on for so long; returns how many."""
    gone = 0
    left = await cloud_uploads.left(pool, [provider.name], older_than_s=older_than_s, lease_s=lease_s, limit=limit)
    for one in left:
        if one.session is not None:
            try:
                await provider.abort(Upload(one.path, one.size, one.session, one.expires_at))
            except NotFound:
                pass
            except CloudError as error:
                _log.info("an upload was not given up at the store", store=provider.name, error=str(error))
                continue
        await cloud_uploads.ended(pool, one)
        gone += 1
    return gone
