"""What was never confirmed goes: the promise first, then the file, then the row; what was confirmed never does."""

import asyncio
import os
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import asyncpg
import pytest

from api.photo_sweep import LEASE, PhotoSweep
from api.routes.photos import asset_of
from shared.clock import wall
from shared.cloud.gateway_uploads import GatewayUploads
from shared.cloud.store_client import StoreClient
from shared.cloud.upload_stores import UploadStores
from shared.cloud.uploads import Asset
from shared.keys import read_hmac_keys
from shared.signed_urls import SignedUrls
from shared.store import leases, photos
from shared.store.photos import NewPhoto
from shared.store.pool import Pool
from tests.api.conftest import FILES_KEYS, http_client
from tests.api.gateway import RunningGateway, running_gateway

CONTENT = os.urandom(1000)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path) as running:
        yield running


@pytest.fixture
async def stores(gateway: RunningGateway) -> AsyncIterator[UploadStores]:
    client = StoreClient(deadline_s=5)
    signed_urls = SignedUrls(read_hmac_keys(None, FILES_KEYS), gateway.url)
    local = GatewayUploads(signed_urls, client, public_url=gateway.url, lifetime_s=60, size_max=10**6)
    made = UploadStores({"local": local}, "local", client)
    yield made
    await made.close()


def sweep(pool: Pool, stores: UploadStores, owner: str = "api-1") -> PhotoSweep:
    return PhotoSweep(pool, stores, owner=owner, period_s=0.01, rand=Random(1), later_s=0.0)


async def photo(pool: Pool, *, store: str = "local", pending_s: float = 0.0, photo_id: UUID | None = None) -> NewPhoto:
    digest = sha256(CONTENT).hexdigest()
    key = f"Photos/aa/{uuid4()}"
    made = NewPhoto(photo_id or uuid4(), "device:a", None, store, key, "a.jpg", "image/jpeg", 1000, digest, None)
    await photos.reserve(pool, made, pending_max=1000, pending_s=pending_s)
    return made


async def upload(stores: UploadStores, new: NewPhoto) -> int:
    asset = Asset(new.object_key, new.name, new.content_type, new.size, new.sha256)
    permit = stores.current.permit(asset, now=wall())
    async with http_client() as client:
        return (await client.put(permit.url, content=CONTENT, headers=permit.headers)).status_code


async def test_what_was_never_confirmed_goes_and_the_rest_stays(
    pool: Pool, stores: UploadStores, gateway: RunningGateway
) -> None:
    abandoned, absent, waiting, kept = [await photo(pool, pending_s=seconds) for seconds in (0, 0, 60, 0)]
    for new in (abandoned, waiting, kept):
        assert await upload(stores, new) == 201
    await photos.adopt(pool, kept.photo_id, kept.object_key)
    assert await sweep(pool, stores).once() == 2
    assert [path.name for path in gateway.photos()] == sorted(new.object_key[10:] for new in (waiting, kept))
    found = [await photos.get(pool, new.photo_id) for new in (abandoned, absent, waiting, kept)]
    assert [row and row.status for row in found] == [None, None, "pending", "stored"]
    assert await sweep(pool, stores).once() == 0


async def test_a_confirmation_that_comes_too_late_finds_nothing(pool: Pool) -> None:
    new = await photo(pool)
    assert await photos.expire(pool, limit=10) == 1
    row = await photos.adopt(pool, new.photo_id, new.object_key)
    assert row is not None
    assert row.status == "expired"


async def test_confirming_and_expiring_at_once_leave_one_of_the_two(pool: Pool) -> None:
    made = [await photo(pool) for _ in range(40)]
    adopted, expired = await asyncio.gather(
        asyncio.gather(*(photos.adopt(pool, new.photo_id, new.object_key) for new in made)),
        photos.expire(pool, limit=100),
    )
    statuses = [row.status for row in adopted if row is not None]
    assert statuses.count("stored") + expired == 40
    after = [await photos.get(pool, new.photo_id) for new in made]
    assert [row.status for row in after if row is not None].count("stored") == statuses.count("stored")


async def test_one_process_does_it_at_a_time(pool: Pool, stores: UploadStores) -> None:
    await photo(pool)
    await leases.ensure(pool, [LEASE])
    held = await leases.claim(pool, [LEASE], "other", ttl_s=30, limit=1)
    assert await sweep(pool, stores).once() == 0
    await leases.release(pool, "other", held)
    assert await sweep(pool, stores).once() == 1


async def test_a_store_that_cannot_do_it_holds_nobody_up_and_is_asked_again(
    pool: Pool, stores: UploadStores, gateway: RunningGateway, sql: asyncpg.Connection
) -> None:
    for _ in range(3):
        await photo(pool, store="s3")
    await photo(pool)
    assert await sweep(pool, stores).once() == 1
    assert await sql.fetchval("SELECT count(*) FROM photos WHERE status = 'expired'") == 3
    left = await photo(pool)
    await gateway.server.close()
    assert await sweep(pool, stores).once() == 0
    found = await photos.get(pool, left.photo_id)
    assert found is not None
    assert found.status == "expired"


async def test_a_removal_that_comes_late_touches_nothing_newer_of_the_same_id(
    pool: Pool, stores: UploadStores, gateway: RunningGateway
) -> None:
    old = await photo(pool)
    assert await upload(stores, old) == 201
    await photos.expire(pool, limit=10)
    (late,) = await photos.expired(pool, limit=10)
    assert await sweep(pool, stores).once() == 1
    new = await photo(pool, pending_s=60, photo_id=old.photo_id)
    assert await upload(stores, new) == 201
    # Another process had read the row before, and does now what it had begun.
    await stores.current.remove(asset_of(late))
    assert await photos.forget(pool, [late]) == 0
    assert [path.name for path in gateway.photos()] == [new.object_key[10:]]


async def test_what_a_process_had_begun_when_it_died_is_finished_by_another(
    pool: Pool, stores: UploadStores, gateway: RunningGateway
) -> None:
    made = [await photo(pool) for _ in range(2)]
    for new in made:
        assert await upload(stores, new) == 201
    # The first died after it had ended the time of both and removed one of them at the store.
    assert await photos.expire(pool, limit=10) == 2
    await stores.current.remove(asset_of((await photos.expired(pool, limit=10))[0]))
    assert await sweep(pool, stores, "api-2").once() == 2
    assert gateway.photos() == []
    assert [await photos.get(pool, new.photo_id) for new in made] == [None, None]


async def test_a_batch_is_bounded(pool: Pool) -> None:
    for _ in range(5):
        await photo(pool)
    assert await photos.expire(pool, limit=3) == 3
    assert len(await photos.expired(pool, limit=2)) == 2


async def test_it_goes_on_by_itself(pool: Pool, stores: UploadStores, sql: asyncpg.Connection) -> None:
    running = asyncio.create_task(sweep(pool, stores).run())
    await photo(pool)
    async with asyncio.timeout(20):
        while await sql.fetchval("SELECT count(*) FROM photos"):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
