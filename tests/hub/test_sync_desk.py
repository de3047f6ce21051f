"""Operations over the socket: what is answered, in which order, and what happens when there is too much of it."""

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any

import asyncpg
import pytest

from hub.store_watch import StoreWatch
from hub.sync_desk import PER_DEVICE_MAX, SyncDesk, SyncLimits
from shared.protocol.frames import ErrorFrame, Sync, SyncResult, encode_frame
from shared.store.errors import StoreUnavailable
from shared.store.pool import Pool
from shared.sync.engine import apply_batch
from shared.tokens import Claims
from tests.hub.conftest import Device, Fleet, StartHub, until
from tests.shared.sync.samples import add_template, an_id, change, create


@pytest.fixture
async def sql(database_url: str) -> Any:
    connection = await asyncpg.connect(database_url)
    await add_template(connection)
    yield connection
    await connection.close()


async def sync(device: Device, ref: str, *operations: dict[str, Any]) -> None:
    await device.socket.send(json.dumps({"type": "sync", "ref": ref, "operations": operations}))


async def test_a_frame_has_the_same_effect_and_results_as_a_batch_by_rest(
    fleet: Fleet, start_hub: StartHub, sql: asyncpg.Connection
) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    entity = an_id()
    batch = [create(entity), change("submit", entity, 1), change("submit", entity, 1), {}]
    await sync(device, "r1", *batch)
    answer = await device.frame()
    assert (answer["type"], answer["ref"]) == ("sync_result", "r1")
    assert [(one["status"], one["http"]) for one in answer["results"]] == [
        ("applied", 201),
        ("applied", 200),
        ("conflict", 409),
        ("rejected", 400),
    ]
    assert answer["results"][2]["entity"]["status"] == "submitted"
    row = await sql.fetchrow("SELECT principal, user_id FROM sync_operations LIMIT 1")
    assert tuple(row) == (f"device:{truck}", truck)
    # By REST, with a token of the same device, it is the same operation.
    claims = Claims(truck, frozenset({"device"}), None, 0.0, "k")
    again = await apply_batch(fleet.pool, claims.principal, batch)
    assert [one.result.status for one in again] == ["duplicate", "duplicate", "conflict", "rejected"]
    # Events go on beside it.
    await fleet.record(truck)
    assert await device.seqs(1) == [1]


async def test_batches_of_a_device_are_answered_in_their_order(
    fleet: Fleet, start_hub: StartHub, sql: asyncpg.Connection
) -> None:
    hub = await start_hub()
    device = await fleet.connect(hub.url, await fleet.new_device())
    await device.welcome()
    entity = an_id()
    await sync(device, "1", create(entity))
    for version in (1, 2, 3):
        await sync(device, str(version + 1), change("update", entity, version, title=f"T{version}"))
    answers = [await device.frame() for _ in range(4)]
    assert [answer["ref"] for answer in answers] == ["1", "2", "3", "4"]
    assert [answer["results"][0]["version"] for answer in answers] == [1, 2, 3, 4]


async def test_a_batch_that_was_cut_off_is_told_when_it_is_sent_again(
    fleet: Fleet, start_hub: StartHub, sql: asyncpg.Connection
) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    batch = [create(an_id()) for _ in range(20)]
    await sync(device, "r1", *batch)
    await device.socket.ping()
    device.socket.transport.abort()
    again = await fleet.connect(hub.url, truck)
    await again.welcome()
    await sync(again, "r2", *batch)
    statuses = {one["status"] for one in (await again.frame())["results"]}
    assert len(statuses) == 1
    assert statuses <= {"applied", "duplicate"}
    assert await sql.fetchval("SELECT count(*) FROM inspections") == 20


async def test_the_state_of_many_conflicts_stays_within_a_frame(
    fleet: Fleet, start_hub: StartHub, sql: asyncpg.Connection
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_INBOUND_BYTES_PER_S="0")
    device = await fleet.connect(hub.url, await fleet.new_device())
    await device.welcome()
    entities = [an_id() for _ in range(5)]
    for entity in entities:
        await sync(device, "c", create(entity, answers={"a": "x" * 60_000}))
        assert (await device.frame())["results"][0]["status"] == "applied"
    await sync(device, "r", *(change("submit", entity, 9) for entity in entities))
    answer = await device.frame()
    assert [one["status"] for one in answer["results"]] == ["conflict"] * 5
    assert ["entity" in one for one in answer["results"]] == [True, False, False, False, False]


class Truck:
    """A connection that only remembers what it was answered."""

    def __init__(self, device_id: str, on_answer: Callable[[str], None] = lambda device_id: None) -> None:
        self.device_id = device_id
        self.is_over = False
        self.answers: list[SyncResult | ErrorFrame] = []
        self._on_answer = on_answer

    def on_sync_answer(self, answer: SyncResult | ErrorFrame) -> None:
        self.answers.append(answer)
        self._on_answer(self.device_id)

    @property
    def refs(self) -> list[str | None]:
        return [answer.ref for answer in self.answers]


def desk(pool: Pool, *, at_once: int = 1, waiting_max: int = 100, deadline_s: float = 20.0) -> SyncDesk:
    watch = StoreWatch(Random(1), deadline_s=5.0)
    return SyncDesk(pool, watch, SyncLimits(at_once, waiting_max, deadline_s, 1000))


def a_batch(ref: str) -> Sync:
    return Sync(ref, [create(an_id())])


def refused(answer: ErrorFrame | None) -> str | None:
    return answer.code if answer is not None else None


async def test_devices_take_turns_and_one_has_at_most_so_many_waiting(pool: Pool, sql: asyncpg.Connection) -> None:
    made = desk(pool, waiting_max=7)
    order: list[str] = []
    eager, other, third = (Truck(name, order.append) for name in ("eager", "other", "third"))
    for number in range(PER_DEVICE_MAX):
        assert made.ask(eager, a_batch(str(number))) is None
    assert refused(made.ask(eager, a_batch("x"))) == "busy"
    assert made.ask(other, a_batch("0")) is None
    assert made.ask(other, a_batch("1")) is None
    assert made.ask(third, a_batch("0")) is None
    assert refused(made.ask(third, a_batch("1"))) == "busy"
    task = asyncio.create_task(made.run())
    await until(lambda: len(order) == 7)
    task.cancel()
    assert order == ["eager", "other", "third", "eager", "other", "eager", "eager"]
    assert eager.refs == ["0", "1", "2", "3"]
    assert "0 wait, of 0 devices" in repr(made)


async def test_what_a_device_left_behind_is_not_done(pool: Pool, sql: asyncpg.Connection) -> None:
    made = desk(pool)
    gone, here = Truck("gone"), Truck("here")
    made.ask(gone, a_batch("0"))
    made.ask(gone, a_batch("1"))
    made.ask(here, a_batch("0"))
    gone.is_over = True
    task = asyncio.create_task(made.run())
    await until(lambda: here.answers)
    task.cancel()
    assert gone.answers == []
    assert await sql.fetchval("SELECT array_agg(DISTINCT user_id) FROM sync_operations") == ["here"]
    assert "0 wait, of 0 devices" in repr(made)


async def test_while_postgres_is_known_to_be_away_a_batch_is_refused_at_once(pool: Pool) -> None:
    watch = StoreWatch(Random(1), deadline_s=5.0)
    made = SyncDesk(pool, watch, SyncLimits(1, 10, 1.0, 10))
    watch.failed(StoreUnavailable("gone"))
    assert refused(made.ask(Truck("t"), a_batch("0"))) == "unavailable"
    watch.answered()
    assert made.ask(Truck("t"), a_batch("0")) is None


async def test_a_day_that_is_used_up_is_said(pool: Pool, sql: asyncpg.Connection) -> None:
    made = SyncDesk(pool, StoreWatch(Random(1), deadline_s=5.0), SyncLimits(1, 10, 20.0, 1))
    truck = Truck("truck-7")
    made.ask(truck, Sync("r", [create(an_id()), create(an_id())]))
    task = asyncio.create_task(made.run())
    await until(lambda: truck.answers)
    task.cancel()
    (answer,) = truck.answers
    assert isinstance(answer, ErrorFrame)
    assert (answer.code, answer.ref) == ("keys_spent", "r")
    assert b"keys_spent" in encode_frame(answer)


async def answer_of(made: SyncDesk, truck: Truck) -> ErrorFrame:
    assert made.ask(truck, a_batch("r")) is None
    task = asyncio.create_task(made.run())
    await until(lambda: truck.answers)
    task.cancel()
    answer = truck.answers.pop()
    assert isinstance(answer, ErrorFrame)
    assert answer.ref == "r"
    return answer


async def test_a_postgres_that_hangs_or_is_away_is_said_in_time(pool: Pool, sql: asyncpg.Connection) -> None:
    async with sql.transaction():
        await sql.execute("LOCK TABLE sync_operations")
        assert (await answer_of(desk(pool, deadline_s=0.1), Truck("t"))).code == "unavailable"
    await pool.close()
    assert (await answer_of(desk(pool), Truck("t"))).code == "unavailable"
