import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from shared.protocol.operations import BATCH_MAX_BYTES
from tests.api.conftest import RunningApi, StartApi, problem, token
from tests.shared.sync.samples import add_template, an_id, change, create

PATH = "/api/v1/sync/batch/"


@pytest.fixture(autouse=True)
async def template(sql: asyncpg.Connection) -> None:
    await add_template(sql)


async def send(client: httpx.AsyncClient, *operations: Any) -> list[dict[str, Any]]:
    answer = await client.post(PATH, json={"operations": list(operations)})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [one["op_id"] for one in results] == [operation.get("op_id") for operation in operations]
    return results


async def test_a_batch_has_a_result_for_each_in_order(api: RunningApi) -> None:
    entity = an_id()
    truck = api.device("truck-7")
    first = await send(truck, create(entity), change("submit", entity, 1), change("submit", entity, 1))
    assert [(one["status"], one["http"]) for one in first] == [("applied", 201), ("applied", 200), ("conflict", 409)]
    assert first[0].keys() == {"op_id", "status", "http", "version"}
    assert first[2]["version"] == first[2]["entity"]["version"] == 2
    assert first[2]["entity"]["answers"] == {"left": 1}
    approved = await send(api.operator, change("approve", entity, 2, note="fine"))
    assert approved[0]["status"] == "applied"


async def test_the_slash_at_the_end_makes_no_difference(api: RunningApi) -> None:
    answer = await api.device("truck-7").post(PATH.rstrip("/"), json={"operations": [create(an_id())]})
    assert answer.json()["results"][0]["status"] == "applied"


async def test_a_replay_at_another_instance_is_told_the_same(api: RunningApi, start_api: StartApi) -> None:
    other = await start_api()
    batch = [create(an_id()), change("submit", an_id(), 1), {**create(an_id()), "data": {}}]
    first = await send(api.device("truck-7"), *batch)
    again = await send(other.device("truck-7"), *batch)
    assert [one["status"] for one in again] == ["duplicate", "duplicate", "rejected"]
    assert [{**one, "status": ""} for one in again] == [{**one, "status": ""} for one in first]


async def test_only_a_batch_that_cannot_be_read_is_refused_as_a_whole(api: RunningApi) -> None:
    truck = api.device("truck-7")
    bodies: list[tuple[Any, str]] = [
        ({}, "operations"),
        ({"operations": []}, "operations"),
        ({"operations": [{}] * 101}, "operations"),
        ({"operations": [{}, 7]}, "operations[1]"),
        ({"operations": {}}, "operations"),
        ({"operations": [{}], "more": 1}, "more"),
        ([], ""),
    ]
    for body, field in bodies:
        answer = await truck.post(PATH, json=body)
        assert problem(answer, 400, "invalid-body")["field"] == field


async def test_a_batch_has_at_most_one_mebibyte(api: RunningApi) -> None:
    large = [create(an_id(), answers={"a": "x" * 65_000}) for _ in range(17)]
    assert {one["status"] for one in await send(api.device("truck-7"), *large[:16])} == {"applied"}
    answer = await api.device("truck-7").post(PATH, json={"operations": large})
    assert problem(answer, 413, "too-large")["limit"] == BATCH_MAX_BYTES


async def test_services_and_strangers_send_no_batches(api: RunningApi) -> None:
    body = {"operations": [create(an_id())]}
    problem(await api.service.post(PATH, json=body), 403, "forbidden")
    problem(await api.client().post(PATH, json=body), 401, "unauthorized")
    problem(await api.operator.get(PATH), 405, "method-not-allowed")


async def test_a_token_of_two_scopes_acts_as_its_device(api: RunningApi, sql: asyncpg.Connection) -> None:
    both = api.client(token("truck-7", "operator device"))
    await send(both, create(an_id()))
    assert await sql.fetchval("SELECT principal FROM sync_operations") == "device:truck-7"


async def test_a_day_has_so_many_operations(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_SYNC_KEYS_PER_DAY=2)
    await send(api.device("truck-7"), create(an_id()), create(an_id()))
    answer = await api.device("truck-7").post(PATH, json={"operations": [create(an_id())]})
    assert problem(answer, 429, "keys-spent")["limit"] == 2
    assert 0 < int(answer.headers["retry-after"]) <= 86_401
    await send(api.device("truck-8"), create(an_id()))


async def test_fifty_at_once_with_one_key_have_one_effect_and_none_waits_for_long(
    api: RunningApi, start_api: StartApi, sql: asyncpg.Connection
) -> None:
    other = await start_api()
    clients = [api.device("truck-7"), other.device("truck-7")]
    operation = create(an_id())
    loop = asyncio.get_running_loop()

    async def one(number: int) -> tuple[str, float]:
        began = loop.time()
        (result,) = await send(clients[number % 2], operation)
        return result["status"], loop.time() - began

    answers = await asyncio.gather(*(one(number) for number in range(50)))
    assert sorted(status for status, _ in answers) == ["applied", *["duplicate"] * 49]
    assert max(waited for _, waited in answers) < 10.0  # far less, but for a machine with much else to do
    assert await sql.fetchval("SELECT count(*) FROM inspections") == 1
