from collections.abc import AsyncIterator
from random import Random

import pytest

from shared.cloud.errors import StoreUnavailable
from shared.cloud.hashes import digest_of
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_source import BytesContent
from shared.cloud.upload_rows import RowJournal
from shared.store import cloud_names
from shared.store.pool import Pool, open_pool
from tests.shared.cloud.plain_provider import UNIT, PlainProvider, Trouble
from tests.shared.cloud.test_transfer import Slept
from worker.cloud_leftovers import CloudLeftovers


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=4)
    yield opened
    await opened.close()


async def test_what_nobody_came_back_to_is_given_up_and_a_store_that_is_down_holds_up_no_other(pool: Pool) -> None:
    def unfinished(call: str, _number: int) -> Trouble | None:
        return Trouble.DOWN if call in ("finish", "abort") else None

    slept = Slept()
    transfer = Transfer(part_bytes=UNIT, rand=Random(1), time=slept.time, sleep=slept.sleep)
    stores = {name: PlainProvider(name, trouble=unfinished) for name in ("drive", "s3")}
    for store in stores.values():
        with pytest.raises(StoreUnavailable):
            await transfer.put(store, "a/b", BytesContent(b"x" * 5000), journal=RowJournal(pool))
    await transfer.close()
    await cloud_names.claim(pool, "s3", "a", "b", digest_of(b""), ttl_s=0)
    await pool.fetch("UPDATE cloud_names SET claimed_until = clock_timestamp() - interval '8 days'")
    leftovers = CloudLeftovers(pool, stores)
    assert await leftovers.sweep() == 0, "somebody may still come back"
    assert not await pool.fetch("SELECT FROM cloud_names")
    await pool.fetch("UPDATE cloud_uploads SET changed_at = clock_timestamp() - interval '2 days'")
    stores["s3"].trouble = lambda _call, _number: None
    assert await leftovers.sweep() == 1
    assert (len(stores["s3"].sessions), len(stores["drive"].sessions)) == (0, 1)
    stores["drive"].trouble = lambda _call, _number: None
    await pool.fetch("UPDATE cloud_uploads SET lease_until = '-infinity'")
    assert await leftovers.sweep() == 1
    assert not stores["drive"].sessions
    assert not await pool.fetch("SELECT FROM cloud_uploads")
