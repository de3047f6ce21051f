from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from shared.store.known_types import know_arrays
from shared.store.log import APPEND_STATEMENTS
from shared.store.operations import TRANSACTION_STATEMENTS
from shared.store.pool import open_pool

EVERY = (
    "SELECT $1::bool[], $2::bytea[], $3::int2[], $4::int4[], $5::text[], $6::int8[], $7::float8[], $8::timestamptz[],"
    " $9::date[], $10::interval[], $11::uuid[]"
)
VALUES: list[Any] = [
    [True], [b"x"], [1], [2], ["a", None], [3], [0.5], [datetime(2026, 11, 22, tzinfo=UTC)], [date(2026, 11, 22)],
    [timedelta(days=1)], [UUID(int=7)],
]  # fmt: skip


async def test_only_the_first_connection_asks_for_types(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    original = asyncpg.Connection._introspect_types

    async def counted(self: Any, types: Any, timeout: Any) -> Any:
        asked.append(types)
        return await original(self, types, timeout)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", counted)
    statements = (*APPEND_STATEMENTS, *TRANSACTION_STATEMENTS)
    for _ in range(2):
        pool = await open_pool(database_url, name="test", min_size=3, max_size=3, prepared=statements)
        async with pool.acquire() as connection:
            (row,) = await connection.fetch(EVERY, *VALUES)
            assert list(row) == VALUES
        await pool.close()
    # None of them, when another test has opened a pool before.
    assert len(asked) <= 1


async def test_a_driver_that_has_no_place_for_it_asks_for_itself() -> None:

    await know_arrays(object(), timeout_s=1.0)
