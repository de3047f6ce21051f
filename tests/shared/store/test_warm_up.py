"""Statements that a connection knows before anybody waits for what it does."""

import pytest

from shared.store.errors import StoreError
from shared.store.pool import open_pool
from shared.store.queries import statements
from watcher.record import PAGE_STATEMENTS

PREPARED = "SELECT statement FROM pg_prepared_statements"


async def test_a_new_connection_has_its_statements_prepared_and_nothing_written(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", min_size=1, max_size=1, prepared=PAGE_STATEMENTS)
    try:
        prepared = {row["statement"] for row in await pool.fetch(PREPARED)}
        assert set(PAGE_STATEMENTS) <= prepared
        for table in ("items", "jobs", "responses", "events", "event_keys"):
            assert (await pool.fetch(f"SELECT count(*) FROM {table}"))[0]["count"] == 0
    finally:
        await pool.close()


async def test_without_a_statement_cache_nothing_is_prepared(database_url: str) -> None:
    fence = statements("leases")["fence"]
    pool = await open_pool(database_url, name="test", max_size=1, statement_cache_size=0, prepared=[fence])
    try:
        assert fence not in {row["statement"] for row in await pool.fetch(PREPARED)}
    finally:
        await pool.close()


async def test_a_statement_that_cannot_be_prepared_stops_the_pool_from_opening(database_url: str) -> None:
    with pytest.raises(StoreError):
        await open_pool(database_url, name="test", max_size=1, prepared=["SELECT * FROM no_such_table"])
