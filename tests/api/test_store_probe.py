"""What the API's connections bring along."""

from random import Random

from api.settings import Settings
from api.store_probe import PREPARED, StoreProbe, open_pool_when_there
from shared.lifecycle import Stop
from shared.settings import load
from shared.store import operations, photos
from tests.api.conftest import api_environment


async def test_transactions_that_hold_locks_prepare_nothing_meanwhile(database_url: str, redis_url: str) -> None:
    settings = load(Settings, api_environment(database_url, redis_url, FLEETWIRE_DB_POOL_MAX=1))
    pool = await open_pool_when_there(settings, Stop(), StoreProbe(), Random(1))
    assert pool is not None
    known = {row["statement"] for row in await pool.fetch("SELECT statement FROM pg_prepared_statements")}
    assert {*PREPARED, *operations.TRANSACTION_STATEMENTS, *photos.TRANSACTION_STATEMENTS} <= known
    assert not await pool.fetch("SELECT photo_id FROM photos")
    await pool.close()
