import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import orjson
import pytest

from shared.protocol.operations import OperationResult
from shared.store import operations
from shared.store.pool import Pool, open_pool
from shared.sync import engine
from shared.sync.engine import KeysSpent, apply_batch, results_of
from tests.shared.sync.samples import TEMPLATE, add_template, an_id, change, create

TRUCK = "device:truck-7"
OLGA = "operator:olga"


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await add_template(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def pool(database_url: str, sql: asyncpg.Connection) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=8)
    yield opened
    await opened.close()


async def send(pool: Pool, *batch: dict[str, Any], principal: str = TRUCK) -> list[OperationResult]:
    return results_of(await apply_batch(pool, principal, batch))


def told(results: Sequence[OperationResult]) -> list[tuple[str, int, Any]]:
    return [(one.status, one.http, one.error.code if one.error else one.version) for one in results]


async def counts(sql: asyncpg.Connection) -> tuple[int, int, int]:
    """Inspections, keys, keys counted."""
    row = await sql.fetchrow(
        "SELECT (SELECT count(*) FROM inspections), (SELECT count(*) FROM sync_operations),"
        " (SELECT COALESCE(sum(used), 0)::bigint FROM operation_days)"
    )
    return row[0], row[1], row[2]


async def test_operations_on_one_entity_apply_in_their_order(pool: Pool, sql: asyncpg.Connection) -> None:
    entity = an_id()
    results = await send(
        pool,
        create(entity),
        change("update", entity, 1, answers={"left": None, "right": [1, {"a": "\u00e9"}]}),
        change("update", entity, 2, title="Both"),
        change("submit", entity, 3),
    )
    assert told(results) == [("applied", 201, 1), ("applied", 200, 2), ("applied", 200, 3), ("applied", 200, 4)]
    row = await sql.fetchrow("SELECT * FROM inspections")
    assert (str(row["inspection_id"]), row["inspector_id"], row["template_id"]) == (entity, "truck-7", TEMPLATE)
    assert (row["status"], row["title"], row["version"], row["is_deleted"]) == ("submitted", "Both", 4, False)
    assert orjson.loads(row["answers"]) == {"right": [1, {"a": "\u00e9"}]}
    assert row["submitted_at"] == row["updated_at"] >= row["created_at"]
    keys = await sql.fetch("SELECT * FROM sync_operations ORDER BY result::json->>'version'")
    assert [key["operation_type"].split(".")[1] for key in keys] == ["create", "update", "update", "submit"]
    assert {(key["principal"], key["user_id"], key["status"]) for key in keys} == {(TRUCK, "truck-7", "applied")}


async def test_what_was_applied_is_told_again_and_not_done_again(pool: Pool, sql: asyncpg.Connection) -> None:
    entity = an_id()
    batch = [create(entity), change("update", entity, 1, title="T"), change("submit", entity, 2)]
    first = await send(pool, *batch)
    again = await send(pool, *batch)
    assert again == [msgspec.structs.replace(one, status="duplicate") for one in first]
    assert await counts(sql) == (1, 3, 3)
    # Also when only a part of it is repeated, and something new follows.
    results = await send(pool, batch[2], change("approve", entity, 3), principal=TRUCK)
    assert told(results) == [("duplicate", 200, 3), ("rejected", 403, "forbidden")]


async def test_a_refusal_for_good_is_told_again_a_conflict_is_judged_anew(pool: Pool, sql: asyncpg.Connection) -> None:
    entity = an_id()
    gone = change("submit", an_id(), 1)
    early = change("update", entity, 2, title="T")
    await send(pool, create(entity))
    assert told(await send(pool, gone, early)) == [("rejected", 404, "not_found"), ("conflict", 409, "conflict")]
    assert await counts(sql) == (1, 2, 2)
    await send(pool, change("update", entity, 1, title="U"))
    again = await send(pool, gone, early)
    assert told(again) == [("duplicate", 404, "not_found"), ("applied", 200, 3)]
    assert again[0].error is not None
    assert again[0].error.field == "entity_id"


async def test_a_conflict_brings_the_state_as_it_is(pool: Pool) -> None:
    entity = an_id()
    await send(pool, create(entity), change("update", entity, 1, answers={"a": "b" * 50}))
    (result,) = await send(pool, change("submit", entity, 1))
    shown = orjson.loads(msgspec.json.encode(result))
    assert (shown["status"], shown["http"], shown["version"]) == ("conflict", 409, 2)
    assert (shown["entity"]["version"], shown["entity"]["answers"]) == (2, {"left": 1, "a": "b" * 50})
    outcomes = await apply_batch(pool, TRUCK, [change("submit", entity, 1), change("submit", entity, 1)])
    fits, *_ = results_of(outcomes, entities_max_bytes=100)
    assert fits.entity is not None
    (without, *_) = results_of(outcomes, entities_max_bytes=10)
    assert (without.entity, without.version) == (None, 2)


async def test_what_fails_stops_only_the_later_ones_on_its_entity(pool: Pool, sql: asyncpg.Connection) -> None:
    one, other = an_id(), an_id()
    batch = [
        create(one),
        change("submit", one, 7),
        create(other),
        change("update", one, 1, title="T"),
        change("submit", other, 1),
        {"op_id": an_id(), "type": "inspection.submit", "entity_id": other, "base_version": "2"},
        change("reopen", other, 2),
    ]
    assert told(await send(pool, *batch)) == [
        ("applied", 201, 1),
        ("conflict", 409, "conflict"),
        ("applied", 201, 1),
        ("retry", 409, "dependency"),
        ("applied", 200, 2),
        ("rejected", 400, "invalid"),
        ("retry", 409, "dependency"),
    ]
    assert await counts(sql) == (2, 3, 3)
    assert told(await send(pool, batch[3])) == [("applied", 200, 2)]


async def test_one_key_with_another_operation_is_refused(pool: Pool) -> None:
    entity, op_id = an_id(), an_id()
    await send(pool, create(entity, op_id=op_id))
    (result,) = await send(pool, create(an_id(), op_id=op_id))
    assert told([result]) == [("rejected", 422, "key_reused")]
    # The same key is another one in the hands of somebody else.
    assert told(await send(pool, create(an_id(), op_id=op_id), principal="device:truck-8")) == [("applied", 201, 1)]


async def test_a_key_that_comes_twice_in_a_batch_has_one_effect(pool: Pool, sql: asyncpg.Connection) -> None:
    first = create(an_id())
    results = await send(pool, first, first, {**first, "entity_id": an_id()})
    assert told(results) == [("applied", 201, 1), ("duplicate", 201, 1), ("rejected", 422, "key_reused")]
    conflict = change("submit", first["entity_id"], 9)
    assert {one.status for one in await send(pool, conflict, conflict)} == {"conflict"}
    assert await counts(sql) == (1, 1, 1)


async def test_a_malformed_operation_names_its_member_and_keeps_nobody_out(pool: Pool) -> None:
    results = await send(pool, {"op_id": "x"}, create(an_id()), create(an_id(), title=""))
    assert told(results) == [("rejected", 400, "invalid"), ("applied", 201, 1), ("rejected", 400, "invalid")]
    assert [one.error.field for one in results if one.error] == ["type", "data.title"]
    assert results[0].op_id is None


async def test_a_batch_of_malformed_ones_asks_postgres_nothing_of_them(pool: Pool, sql: asyncpg.Connection) -> None:
    assert told(await send(pool, {}, {})) == [("rejected", 400, "invalid")] * 2
    assert await counts(sql) == (0, 0, 0)


async def test_the_keys_of_a_day_are_bounded_and_only_those_that_are_kept_count(
    pool: Pool, sql: asyncpg.Connection
) -> None:
    entity = an_id()
    await apply_batch(pool, TRUCK, [create(entity), change("submit", entity, 9)], keys_per_day=2)
    assert await counts(sql) == (1, 1, 1)
    with pytest.raises(KeysSpent) as caught:
        await apply_batch(pool, TRUCK, [create(an_id()), create(an_id())], keys_per_day=2)
    assert 0 < caught.value.retry_after_s <= 86_401
    assert await counts(sql) == (1, 1, 1)
    await apply_batch(pool, "device:truck-8", [create(an_id()), create(an_id())], keys_per_day=2)


async def test_fifty_at_once_with_one_key_have_one_effect(pool: Pool, sql: asyncpg.Connection) -> None:
    operation = create(an_id())
    async with asyncio.timeout(20):
        results = await asyncio.gather(*(send(pool, operation) for _ in range(50)))
    statuses = sorted(one.status for (one,) in results)
    assert statuses == ["applied", *["duplicate"] * 49]
    assert await counts(sql) == (1, 1, 1)


async def test_a_rival_that_makes_the_same_entity_first_is_a_conflict(pool: Pool, sql: asyncpg.Connection) -> None:
    entity = an_id()
    batches = [[create(entity), change("update", entity, 1, title=f"T{n}")] for n in range(12)]
    # Of one principal they would wait for each other before they look.
    results = await asyncio.gather(*(send(pool, *batch, principal=f"{OLGA}-{n}") for n, batch in enumerate(batches)))
    assert sorted(one[0].status for one in results) == ["applied", *["conflict"] * 11]
    assert sorted(one[1].status for one in results) == ["applied", *["retry"] * 11]
    assert await counts(sql) == (1, 2, 2)


async def test_a_rival_that_takes_too_long_costs_a_second_and_a_retry(
    pool: Pool, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_WAIT_S", 0.1)
    entity, other = an_id(), an_id()
    await send(pool, create(entity))
    async with sql.transaction():
        await sql.execute("SELECT FROM inspections WHERE inspection_id = $1 FOR UPDATE", UUID(entity))
        results = await send(pool, change("submit", entity, 1), create(other), {})
    assert told(results) == [
        ("retry", 503, "unavailable"),
        ("retry", 503, "unavailable"),
        ("rejected", 400, "invalid"),
    ]
    assert results[0].retry_after_s == 1.0
    assert await counts(sql) == (1, 1, 1)
    submit = change("submit", entity, 1)
    async with sql.transaction():
        await sql.execute(
            "INSERT INTO sync_operations VALUES ($1, $2, 't', 'x', $3, '', 'claimed')", submit["op_id"], TRUCK, TEMPLATE
        )
        assert told(await send(pool, submit)) == [("retry", 503, "unavailable")]
    assert told(await send(pool, submit)) == [("retry", 409, "in_progress")]


async def test_one_that_the_database_refuses_does_not_cost_the_others(pool: Pool, sql: asyncpg.Connection) -> None:
    await sql.execute("ALTER TABLE inspections ADD CHECK (title <> 'poison')")
    one, other = an_id(), an_id()
    batch = [create(one), create(other, title="poison"), change("submit", one, 1), change("submit", other, 1)]
    assert told(await send(pool, *batch)) == [
        ("applied", 201, 1),
        ("rejected", 422, "unprocessable"),
        ("applied", 200, 2),
        ("retry", 409, "dependency"),
    ]
    assert [one.status for one in await send(pool, *batch)] == ["duplicate", "rejected", "duplicate", "retry"]


async def test_keys_are_pruned_when_their_time_is_over(pool: Pool, sql: asyncpg.Connection) -> None:
    await send(pool, create(an_id()), create(an_id()), create(an_id()))
    await sql.execute("UPDATE sync_operations SET processed_at = processed_at - interval '31 days'")
    await sql.execute("UPDATE operation_days SET day = day - 3")
    await send(pool, create(an_id()))
    assert await operations.prune(pool, rows=2) == 3
    assert await counts(sql) == (4, 1, 1)
