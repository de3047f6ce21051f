"""Calls of cloud providers: believed by their secret, left as a hint, told on the bus, and nothing else."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from api.hook_calls import signature_of
from shared.bus.message import FEED, feed_id_of
from shared.bus.names import feed_channel
from shared.bus.reader import SlotReader
from shared.cloud.hook_secret import hook_secret
from shared.hash_slots import partition_of
from shared.store import feed_hints
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, StartApi, problem
from tests.waiting import until_so

FEED_ID = "sharepoint:fleet"
SECRET = hook_secret(FEED_ID, bytes(range(16)))
STRANGER = hook_secret(FEED_ID, bytes(16))
S3_SECRET = "a-secret-of-the-bucket-0123456789"


@pytest.fixture(autouse=True)
async def feed(sql: asyncpg.Connection) -> None:
    await sql.execute(
        "INSERT INTO feeds (feed_id, provider, root, hook_secret) VALUES ($1, $1, 'fleet', $2)", FEED_ID, SECRET
    )


@pytest.fixture
async def told(redis_url: str) -> AsyncIterator[list[str]]:
    """The feeds that the bus speaks of."""
    heard: list[str] = []

    def take(kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
        assert (kind, device_id, epoch) == (FEED, "", 0)
        heard.append(feed_id_of(body) or "")

    reader = SlotReader(redis_url, on_message=take, on_gap=lambda slots: None, name="test")
    reader.acquire_channel(feed_channel(), take)
    task = asyncio.create_task(reader.run())
    await until_so(lambda: reader.all_confirmed, "the channel is heard")
    yield heard
    await reader.close()
    await asyncio.wait([task])


async def until(heard: list[str], count: int) -> None:
    await until_so(lambda: len(heard) >= count, f"{count} words on the bus")


def notification(secret: str | None, **more: Any) -> dict[str, Any]:
    return {
        "subscriptionId": "sub-1",
        "clientState": secret,
        "changeType": "updated",
        "resource": "drives/d/root",
    } | more


async def hinted(pool: Pool, feed_id: str = FEED_ID) -> feed_hints.Hinted | None:
    found = await feed_hints.hinted(pool, [feed_id])
    return found[0] if found else None


def drive(secret: str, number: int, state: str = "change") -> dict[str, str]:
    return {
        "X-Goog-Channel-ID": "channel-1",
        "X-Goog-Channel-Token": secret,
        "X-Goog-Message-Number": str(number),
        "X-Goog-Resource-State": state,
    }


async def test_graph_gets_its_token_back_when_it_asks_whose_address_this_is(api: RunningApi) -> None:
    token = "Validation: Testing client application reachability for subscription Request-Id: 2c0d&<b>+ é"
    for headers in ({"Content-Type": "text/plain; charset=utf-8"}, {}):
        answer = await api.client().post("/api/v1/hooks/graph", params={"validationToken": token}, headers=headers)
        assert (answer.status_code, answer.text) == (200, token)
        assert answer.headers["content-type"] == "text/plain"
        assert answer.headers["x-content-type-options"] == "nosniff"
    refused = await api.client().post("/api/v1/hooks/graph", params={"validationToken": "a\r\nb"})
    problem(refused, 400, "invalid-parameter")


async def test_a_notification_with_the_secret_leaves_a_hint_and_is_told_on_the_bus(
    api: RunningApi, pool: Pool, told: list[str]
) -> None:
    assert await hinted(pool) is None
    answer = await api.client().post("/api/v1/hooks/graph", json={"value": [notification(SECRET)]})
    assert (answer.status_code, answer.content) == (202, b"")
    found = await hinted(pool)
    assert found is not None
    assert found.doubted_us == 0
    await until(told, 1)
    assert told == [FEED_ID]


async def test_calls_are_answered_while_a_watcher_is_stopped_inside_a_page(
    api: RunningApi, pool: Pool, sql: asyncpg.Connection, told: list[str]
) -> None:
    other = "sharepoint:other"
    secret = hook_secret(other, bytes(range(16)))
    await sql.execute(
        "INSERT INTO feeds (feed_id, provider, root, hook_secret) VALUES ($1, $1, 'other', $2)", other, secret
    )
    async with sql.transaction():
        # What a page does first; then nothing comes any more.
        await sql.execute("UPDATE feeds SET cursor = 'c', polled_at = clock_timestamp() WHERE feed_id = $1", FEED_ID)
        answers = await asyncio.gather(
            *(
                api.client().post("/api/v1/hooks/graph", json={"value": [notification(one)]})
                for one in (SECRET, secret, SECRET)
            )
        )
        assert [answer.status_code for answer in answers] == [202, 202, 202]
        assert await hinted(pool) is not None
        assert await hinted(pool, other) is not None
    await until(told, 2)
    assert set(told) == {FEED_ID, other}


async def test_a_notification_without_the_secret_does_nothing_and_learns_nothing(
    api: RunningApi, pool: Pool, told: list[str]
) -> None:
    client = api.client()
    answers = [
        await client.post("/api/v1/hooks/graph", json={"value": [notification(secret)]})
        for secret in (STRANGER, "", None, hook_secret("sharepoint:other", bytes(16)), FEED_ID, "é" * 100, "a~" * 9999)
    ]
    for answer in answers:
        problem(answer, 403, "hook-refused")
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert await hinted(pool) is None
    assert told == []


@pytest.mark.parametrize("letter", ["\x00", "\ud800"])
async def test_a_secret_that_no_database_holds_is_refused_and_spoils_no_other_call(
    api: RunningApi, pool: Pool, letter: str
) -> None:
    client = api.client()
    content = json.dumps({"value": [notification(f"share{letter}point~{'0' * 32}")]}).encode()
    problem(await client.post("/api/v1/hooks/graph", content=content), 403, "hook-refused")
    both = json.dumps({"value": [notification(f"share{letter}point~{'0' * 32}"), notification(SECRET)]}).encode()
    assert (await client.post("/api/v1/hooks/graph", content=both)).status_code == 202
    assert await hinted(pool) is not None


async def test_of_several_notifications_in_one_call_those_that_are_believed_count(api: RunningApi, pool: Pool) -> None:
    value = [notification(STRANGER), notification(SECRET), notification(SECRET)]
    answer = await api.client().post("/api/v1/hooks/graph", json={"value": value})
    assert answer.status_code == 202
    assert await hinted(pool) is not None


@pytest.mark.parametrize(
    ("event", "doubted"), [("reauthorizationRequired", True), ("subscriptionRemoved", True), ("missed", False)]
)
async def test_a_lifecycle_event_wakes_the_feed_and_says_when_its_subscription_is_in_doubt(
    api: RunningApi, pool: Pool, event: str, doubted: bool
) -> None:
    value = [notification(SECRET, lifecycleEvent=event)]
    assert (await api.client().post("/api/v1/hooks/graph", json={"value": value})).status_code == 202
    found = await hinted(pool)
    assert found is not None
    assert (found.doubted_us > 0) is doubted


async def test_a_call_of_drive_wakes_once_for_each_number_and_not_for_its_repetitions(
    api: RunningApi, pool: Pool, told: list[str]
) -> None:
    client = api.client()
    seen = []
    for number in (2, 2, 5, 3, 5, 6):
        answer = await client.post("/api/v1/hooks/drive", headers=drive(SECRET, number))
        assert answer.status_code == 202
        found = await hinted(pool)
        assert found is not None
        seen.append(found.hinted_us)
    assert [later > earlier for earlier, later in itertools.pairwise(seen)] == [
        False,
        True,
        False,
        False,
        True,
    ]
    await until(told, 3)
    assert told == [FEED_ID] * 3


async def test_the_first_call_of_a_channel_of_drive_only_says_that_it_is_open(api: RunningApi, pool: Pool) -> None:
    answer = await api.client().post("/api/v1/hooks/drive", headers=drive(SECRET, 1, "sync"))
    assert answer.status_code == 202
    assert await hinted(pool) is None


async def test_calls_of_drive_that_are_not_believed_or_make_no_sense_are_refused(api: RunningApi, pool: Pool) -> None:
    client = api.client()
    problem(await client.post("/api/v1/hooks/drive", headers=drive(STRANGER, 2)), 403, "hook-refused")
    problem(await client.post("/api/v1/hooks/drive"), 400, "invalid-request")
    wrong = drive(SECRET, 2) | {"X-Goog-Message-Number": "²"}
    answer = await client.post("/api/v1/hooks/drive", headers=[(k.encode(), v.encode()) for k, v in wrong.items()])
    assert problem(answer, 400, "invalid-request")["field"] == "X-Goog-Message-Number"
    assert await hinted(pool) is None


async def s3_feeds(sql: asyncpg.Connection) -> dict[int, str]:
    rows = [(f"s3:fleet:{number}", number) for number in range(64)]
    await sql.executemany("INSERT INTO feeds (feed_id, provider, root, partition) VALUES ($1, 's3', 'fleet', $2)", rows)
    return {number: feed_id for feed_id, number in rows}


RECORDS = {
    "Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "{key}"}}}],
}
EVENTBRIDGE = {
    "detail-type": "Object Created",
    "detail": {"bucket": {"name": "b"}, "object": {"key": "{key}", "size": 1, "sequencer": "00"}},
}


@pytest.mark.parametrize("form", [RECORDS, EVENTBRIDGE])
async def test_a_call_about_the_bucket_wakes_the_feeds_of_the_devices_it_is_about(
    start_api: StartApi, sql: asyncpg.Connection, pool: Pool, form: dict[str, Any]
) -> None:
    feeds = await s3_feeds(sql)
    api = await start_api(FLEETWIRE_HOOKS_S3_SECRET=S3_SECRET)
    body = json.dumps(form).replace("{key}", "Requests/truck-7/a%20photo.jpg")
    headers = {"Content-Type": "application/json", "Fleetwire-Hook-Secret": S3_SECRET}
    answer = await api.client().post("/api/v1/hooks/s3", content=body, headers=headers)
    assert answer.status_code == 202
    woken = await sql.fetch("SELECT feed_id FROM feed_hints")
    assert [row["feed_id"] for row in woken] == [feeds[partition_of("truck-7")]]


async def test_a_signature_of_the_body_does_instead_of_the_secret_for_five_minutes(
    start_api: StartApi, sql: asyncpg.Connection
) -> None:
    await s3_feeds(sql)
    api = await start_api(FLEETWIRE_HOOKS_S3_SECRET=S3_SECRET)
    body = json.dumps(RECORDS).replace("{key}", "Responses/truck-7/x/y.jpg").encode()
    now = int(time.time())

    async def post(signature: str, content: bytes = body) -> httpx.Response:
        headers = {"Content-Type": "application/json", "Fleetwire-Hook-Signature": signature}
        return await api.client().post("/api/v1/hooks/s3", content=content, headers=headers)

    assert (await post(signature_of(S3_SECRET, body, now))).status_code == 202
    problem(await post(signature_of(S3_SECRET, body, now), body + b" "), 403, "hook-refused")
    problem(await post(signature_of(S3_SECRET, body, now - 400)), 403, "hook-refused")
    problem(await post(signature_of("another-secret", body, now)), 403, "hook-refused")
    problem(await post("nonsense"), 403, "hook-refused")


async def test_without_a_secret_of_the_bucket_no_call_about_it_is_believed(api: RunningApi) -> None:
    for headers in ({}, {"Fleetwire-Hook-Secret": ""}, {"Fleetwire-Hook-Secret": "None"}):
        problem(await api.client().post("/api/v1/hooks/s3", json=RECORDS, headers=headers), 403, "hook-refused")


async def test_what_is_no_call_is_refused_and_other_providers_are_not_there(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_HOOKS_S3_SECRET=S3_SECRET)
    client = api.client()
    for body in (b"{", b"[]", b'{"value": 1}', b'{"value": [{"clientState": 7}]}'):
        problem(await client.post("/api/v1/hooks/graph", content=body), 400, "invalid-body")
    secret = {"Fleetwire-Hook-Secret": S3_SECRET}
    problem(await client.post("/api/v1/hooks/s3", json={"Records": 1}, headers=secret), 400, "invalid-body")
    problem(await client.post("/api/v1/hooks/s3", content=b"{}", headers=secret), 415, "unsupported-media-type")
    problem(await client.post("/api/v1/hooks/graph", content=b"x" * (1024 * 1024 + 1)), 413, "too-large")
    problem(await client.post("/api/v1/hooks/dropbox", json={}), 404, "not-found")


async def test_a_call_is_answered_within_three_seconds_when_the_hint_cannot_be_left(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    began = time.monotonic()
    async with sql.transaction():
        await sql.execute("SELECT FROM feeds WHERE feed_id = $1 FOR UPDATE", FEED_ID)
        answer = await api.client().post("/api/v1/hooks/graph", json={"value": [notification(SECRET)]})
        problem(answer, 503, "unavailable")
    assert time.monotonic() - began < 10
    answer = await api.client().post("/api/v1/hooks/graph", json={"value": [notification(SECRET)]})
    assert answer.status_code == 202


async def test_a_storm_of_calls_about_one_feed_is_a_few_hints(
    api: RunningApi, pool: Pool, sql: asyncpg.Connection, told: list[str]
) -> None:
    client = api.client()
    answers = await asyncio.gather(
        *(client.post("/api/v1/hooks/graph", json={"value": [notification(SECRET)]}) for _ in range(100))
    )
    assert {answer.status_code for answer in answers} == {202}
    await until(told, 1)
    assert len(told) < 60
