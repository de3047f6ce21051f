"""Notices by REST: what is taken, what is refused, and what is on the bus."""

import asyncio
import json
from typing import Any

import redis.asyncio

from shared.bus import message
from shared.bus.names import notice_channel
from tests.api.conftest import RunningApi, StartApi, problem

PATH = "/api/v1/notices"


async def test_a_notice_is_on_the_bus_as_the_frame_that_devices_get(api: RunningApi, redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        ear = client.pubsub()
        await ear.execute_command("SSUBSCRIBE", notice_channel())
        heard: list[tuple[str | None, dict[str, Any]]] = []
        said = [
            await api.operator.post(PATH, json={"id": "n1", "class": "truck", "data": {"text": "Tor 7 gesperrt ✋"}}),
            await api.service.post(PATH, json={"data": {}}),
        ]
        async with asyncio.timeout(10):
            while len(heard) < 2:
                pushed = await ear.parse_response(block=True)
                if pushed[0] == b"smessage":
                    kind, device_id, _, _, body = message.decode(pushed[2])
                    assert (kind, device_id) == (message.NOTICE, "")
                    device_class, frame = message.notice_body(body)
                    heard.append((device_class, json.loads(frame)))
        await ear.aclose()  # type: ignore[no-untyped-call]
    assert [answer.status_code for answer in said] == [202, 202]
    assert said[0].json() == {"id": "n1"}
    assert heard[0] == ("truck", {"type": "notice", "id": "n1", "data": {"text": "Tor 7 gesperrt ✋"}})
    assert heard[1] == (None, {"type": "notice", "id": said[1].json()["id"], "data": {}})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "data"),
    ({"data": [1]}, "data"),
    ({"data": {"text": "x" * 4096}}, "data"),
    ({"data": {"text": "\ud800"}}, "data"),
    ({"data": {}, "class": "Big Truck"}, "class"),
    ({"data": {}, "id": ""}, "id"),
    ({"data": {}, "id": "x" * 129}, "id"),
    ({"data": {}, "id": "a\nb"}, "id"),
    ({"data": {}, "to": "truck-7"}, "to"),
]


async def test_what_cannot_be_sent_is_refused_by_field(api: RunningApi) -> None:
    client = api.operator
    for body, field in REFUSED:
        answer = await client.post(PATH, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert problem(answer, 400, "invalid-body")["field"] == field, body


async def test_a_device_may_not_send_notices(api: RunningApi) -> None:
    problem(await api.device("truck-7").post(PATH, json={"data": {}}), 403, "forbidden")


async def test_more_than_a_burst_is_told_to_come_again(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_API_NOTICES_PER_S="0.05")
    client = api.operator
    assert (await client.post(PATH, json={"data": {}})).status_code == 202
    refused = await client.post(PATH, json={"data": {}})
    problem(refused, 429, "too-many-requests")
    assert int(refused.headers["Retry-After"]) >= 1


async def test_where_the_bus_is_away_a_notice_is_taken_and_lost(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_REDIS_URL="redis://127.0.0.1:1/0")
    assert (await api.operator.post(PATH, json={"data": {}})).status_code == 202
