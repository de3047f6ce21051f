import asyncio
import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import redis.asyncio

from api.publication import Invalid, read_publication
from shared.bus import message
from shared.bus.names import slot_channel
from shared.hash_slots import slot_of
from shared.store import devices
from shared.store.log import NewEvent
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, problem

PATH = "/api/v1/events"


def event(device_id: str = "truck-7", **more: Any) -> dict[str, Any]:
    return {"device_id": device_id, "type": "ResponseReady", "data": {"n": 1}, **more}


async def publish(api: RunningApi, *events: Any) -> list[dict[str, Any]]:
    answer = await api.service.post(PATH, json={"events": list(events)})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


@pytest.fixture(autouse=True)
async def truck(pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")


async def test_each_item_has_its_own_result(api: RunningApi, sql: asyncpg.Connection) -> None:
    assert (await publish(api, event(key="k", data={"n": 7})))[0]["position"] == "1:1"
    results = await publish(
        api,
        event(),
        event(key="k", data={"n": 7}),
        event(key="k", data={"n": 8}),
        event("truck-unknown"),
        event("Truck-7"),
        event(id="mine"),
        {"device_id": "truck-7", "type": "T"},
        "no object",
        event(key="twice"),
        event(key="twice"),
        event(key="twice", data={}),
    )
    assert [result["status"] for result in results] == [
        "recorded",
        "duplicate",
        "conflict",
        "unknown_device",
        "invalid",
        "recorded",
        "invalid",
        "invalid",
        "recorded",
        "duplicate",
        "conflict",
    ]
    assert results[0]["position"] == "1:2"
    assert UUID(results[0]["id"]).version == 7
    assert results[5] == {"status": "recorded", "id": "mine", "position": "1:3"}
    assert (results[4]["field"], results[6]["field"], results[7]["field"]) == ("device_id", "data", "")
    assert await sql.fetchval("SELECT head_seq FROM devices") == await sql.fetchval("SELECT count(*) FROM events") == 4


async def test_what_is_recorded_is_a_cloud_event(api: RunningApi, sql: asyncpg.Connection) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await publish(
        api,
        event(id="e-1", source="/erp", time="2026-11-21T08:30:00.5+01:00", traceparent=trace, data={"a": [1, None]}),
    )
    assert json.loads(await sql.fetchval("SELECT body FROM events")) == {
        "specversion": "1.0",
        "type": "ResponseReady",
        "id": "e-1",
        "source": "/erp",
        "time": "2026-11-21T08:30:00.5+01:00",
        "datacontenttype": "application/json",
        "data": {"a": [1, None]},
        "traceparent": trace,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device_id", "../etc"),
        ("device_id", "a" * 65),
        ("device_id", "con"),
        ("device_id", 7),
        ("type", ""),
        ("type", "has blank"),
        ("type", None),
        ("data", []),
        ("data", "text"),
        ("data", {"n": 2**70}),
        ("data", {"text": "\ud800"}),
        ("data", {"text": "x" * 262_144}),
        ("id", ""),
        ("id", "a\nb"),
        ("id", "x" * 129),
        ("key", "nul\u0000"),
        ("key", "x" * 257),
        ("source", "a b"),
        ("time", "yesterday"),
        ("time", "2026-13-01T00:00:00Z"),
        ("time", "2026-11-21T08:30:00"),
        ("traceparent", "00-00-00-00"),
        ("keey", "x"),
    ],
)
async def test_an_item_that_cannot_be_taken_names_its_field_and_keeps_nobody_out(field: str, value: Any) -> None:
    body = json.dumps({"events": [event(), event() | {field: value}, event()]}).encode()
    first, wrong, last = read_publication(body, now="2026-11-21T08:30:00Z", new_id=lambda: "id")
    assert isinstance(first, NewEvent)
    assert isinstance(last, NewEvent)
    assert isinstance(wrong, Invalid)
    assert wrong.field == field
    assert field in wrong.detail or field == "data"


async def test_a_body_that_is_wrong_as_a_whole_is_refused(api: RunningApi) -> None:
    service = api.service
    for body, field in (
        (b"", None),
        (b"{", None),
        (b"[]", ""),
        (b'{"events":[],"events":[]}', None),
        (b'{"events":' + b"[" * 40 + b"]" * 40 + b"}", None),
        (b'{"events":[{"device_id":"a","type":"T","data":{"n":NaN}}]}', None),
        (b'{"events":[]}', "events"),
        (b'{"events":7}', "events"),
        (b"{}", "events"),
        (json.dumps({"events": [event()] * 501}).encode(), "events"),
        ('{"events":[]}'.encode("utf-16"), None),
    ):
        answer = problem(
            await service.post(PATH, content=body, headers={"Content-Type": "application/json"}), 400, "invalid-body"
        )
        assert answer.get("field") == field


async def test_five_hundred_events_go_in_one_request(api: RunningApi, sql: asyncpg.Connection) -> None:
    results = await publish(api, *(event(id=f"e-{n}") for n in range(500)))
    assert [result["position"] for result in results] == [f"1:{n}" for n in range(1, 501)]
    again = await publish(api, *(event(id=f"e-{n}") for n in range(500)))
    assert {result["status"] for result in again} == {"duplicate"}
    assert await sql.fetchval("SELECT head_seq FROM devices") == 500


async def test_a_repeated_request_changes_nothing_even_at_the_same_time(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    events = [event(key=f"k-{n % 7}") for n in range(20)]
    results = await asyncio.gather(*(publish(api, *events) for _ in range(6)))
    statuses = [result["status"] for one in results for result in one]
    assert (statuses.count("recorded"), statuses.count("duplicate")) == (7, 113)
    assert await sql.fetchval("SELECT count(*) FROM events") == 7


async def test_after_the_commit_the_slot_of_the_device_hears_of_it(
    api: RunningApi, redis_url: str, sql: asyncpg.Connection
) -> None:
    async with redis.asyncio.Redis.from_url(redis_url, protocol=3) as client, client.pubsub() as pubsub:
        await pubsub.ssubscribe(slot_channel(slot_of("truck-7")))
        assert (await pubsub.get_message(timeout=5))["type"] == "ssubscribe"
        await publish(api, event(id="heard"))
        async with asyncio.timeout(5):
            while (heard := await pubsub.get_message(timeout=1)) is None:
                pass
    kind, device_id, epoch, seq, body = message.decode(heard["data"])
    assert (kind, device_id, epoch, seq) == (message.EVENT, "truck-7", 1, 1)
    assert body.decode() == await sql.fetchval("SELECT body FROM events")


async def test_only_services_publish(api: RunningApi) -> None:
    for client in (api.device("truck-7"), api.operator):
        problem(await client.post(PATH, json={"events": [event()]}), 403, "forbidden")
