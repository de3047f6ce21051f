"""A client that goes takes its request with it, down to the statement, until the request has taken effect."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from api.peer import Departure, Peer, peer_of
from shared.store import devices, point_of_no_return
from shared.store.pool import Pool
from shared.telemetry.metrics import API_EVENTS_RECORDED, API_REQUESTS
from tests.api.conftest import RunningApi, StartApi, token

RESPONSES = "/api/v1/devices/{device_id}/responses"


@pytest.fixture
async def patient_api(start_api: StartApi, sql: asyncpg.Connection) -> RunningApi:
    """An API whose database lets statements wait for locks as long as they like."""
    await sql.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lock_timeout = 0', current_database()); END $$"
    )
    return await start_api()


@pytest.fixture
async def locked(sql: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """Nobody else can read responses or write events until this transaction ends."""
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL transaction_timeout = 0")
    await sql.execute("LOCK TABLE responses, events IN ACCESS EXCLUSIVE MODE")
    yield sql
    await transaction.rollback()


async def waiting_for_locks(sql: asyncpg.Connection) -> int:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return int(await sql.fetchval(asked))


async def until_waiting(sql: asyncpg.Connection, count: int) -> None:
    async with asyncio.timeout(8):  # below the statement's own 10 s
        while await waiting_for_locks(sql) != count:
            await sql.execute("SELECT pg_stat_clear_snapshot()")
            await asyncio.sleep(0.01)


async def send(api: RunningApi, method: str, path: str, bearer: str, body: bytes = b"") -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", api.settings.port)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\n"
    )
    writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return writer


async def until(condition: object) -> None:
    async with asyncio.timeout(8):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_a_read_ends_at_the_server_when_its_client_goes(
    patient_api: RunningApi, locked: asyncpg.Connection
) -> None:
    gone = API_REQUESTS.labels(RESPONSES, "GET", "499", "device")
    before = gone._value.get()
    writer = await send(patient_api, "GET", "/api/v1/devices/truck-7/responses", token("truck-7"))
    await until_waiting(locked, 1)
    writer.transport.abort()
    await until_waiting(locked, 0)
    await until(lambda: gone._value.get() == before + 1)
    assert (await patient_api.client().get("/ready")).status_code == 200


async def test_a_write_that_was_not_committed_is_undone_when_its_client_goes(
    patient_api: RunningApi, locked: asyncpg.Connection, pool: Pool
) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    writer = await send(patient_api, "POST", "/api/v1/events", token("erp", "service"), publication("never"))
    await until_waiting(locked, 1)
    writer.transport.abort()
    await until_waiting(locked, 0)
    await locked.execute("ROLLBACK")
    assert await locked.fetchval("SELECT count(*) FROM events") == 0
    assert await locked.fetchval("SELECT head_seq FROM devices") == 0
    await locked.execute("BEGIN")


async def test_a_write_whose_commit_was_sent_is_finished_with_all_that_belongs_to_it(
    api: RunningApi, pool: Pool, sql: asyncpg.Connection
) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    await sql.execute(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.7); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION slowly()"
    )
    recorded = API_EVENTS_RECORDED.labels("recorded")
    before = recorded._value.get()
    writer = await send(api, "POST", "/api/v1/events", token("erp", "service"), publication("once"))
    committing = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COMMIT%' AND wait_event = 'PgSleep'"
    async with asyncio.timeout(8):
        while not await sql.fetchval(committing):
            await asyncio.sleep(0.005)
    writer.transport.abort()
    await until(lambda: recorded._value.get() == before + 1)
    assert await sql.fetchval("SELECT count(*) FROM events") == 1


def publication(event_id: str) -> bytes:
    return json.dumps({"events": [{"device_id": "truck-7", "type": "Test", "id": event_id, "data": {}}]}).encode()


async def test_a_request_past_its_point_of_no_return_is_not_cancelled() -> None:
    peer, done = Peer(), []

    async def handle(*, commits: bool) -> None:
        with Departure(peer) as departure:
            try:
                if commits:
                    point_of_no_return.passed()
                await asyncio.sleep(0)
                done.append(commits)
            except asyncio.CancelledError:
                assert departure.is_cause
                departure.forgive()

    for commits in (True, False):
        handling = asyncio.create_task(handle(commits=commits))
        await asyncio.sleep(0)
        peer.gone()
        await handling
    assert done == [True]
    peer.gone()
    assert peer_of({"state": peer.in_state()}) is peer
    assert peer_of({}) is not peer
