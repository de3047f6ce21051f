"""The gathered greeting: few statements for many devices, and one locked device does not stop the others."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest

from hub.errors import Crowded
from hub.handshakes import Greeter
from hub.store_watch import StoreWatch
from shared.store.cursors import Greeting
from shared.store.errors import StoreBusy, StoreUnavailable
from shared.store.pool import Pool, open_pool
from tests.hub.conftest import Fleet


def greeting(device_id: str, attempt: int = 1) -> Greeting:
    return Greeting(device_id, "0b8a3e3c-7a0a-4a53-9f58-111111111111", attempt, "hub-1")


class CountingPool:
    """The real pool, counting statements."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.statements = 0

    async def fetch(self, statement: str, *arguments: object) -> list[object]:
        self.statements += 1
        return await self._pool.fetch(statement, *arguments)


@pytest.fixture
async def counting(database_url: str) -> AsyncIterator[CountingPool]:
    """Waits for locks a tenth as long as in life."""
    opened = await open_pool(f"{database_url}?lock_timeout=200ms", name="test", max_size=4)
    yield CountingPool(opened)
    await opened.close()


@pytest.fixture
async def greeter(counting: CountingPool) -> AsyncIterator[Greeter]:
    made = Greeter(counting, StoreWatch(Random(1), deadline_s=10.0), pause_s=0.005, waiting_max=300)  # type: ignore[arg-type]
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.wait([task])


async def test_two_hundred_handshakes_share_few_statements(
    fleet: Fleet, greeter: Greeter, counting: CountingPool
) -> None:
    trucks = [await fleet.new_device() for _ in range(200)]
    answers = await asyncio.gather(*(greeter.greet(greeting(truck)) for truck in trucks))
    assert {answer.verdict for answer in answers} == {"ok"}
    assert counting.statements <= 3


async def test_handshakes_of_one_device_go_into_one_statement_after_another(
    fleet: Fleet, greeter: Greeter, counting: CountingPool
) -> None:
    truck = await fleet.new_device()
    answers = await asyncio.gather(*(greeter.greet(greeting(truck)) for _ in range(4)))
    assert sorted(answer.conn_term for answer in answers) == [1, 2, 3, 4]
    assert counting.statements == 4


async def test_a_device_that_is_locked_does_not_stop_the_others(fleet: Fleet, greeter: Greeter, pool: Pool) -> None:
    stuck, free = await fleet.new_device(), await fleet.new_device()
    async with pool.transaction() as connection:
        await connection.execute("SELECT 1 FROM cursors WHERE device_id = $1 FOR UPDATE", stuck)
        both = asyncio.gather(greeter.greet(greeting(stuck)), greeter.greet(greeting(free)), return_exceptions=True)
        async with asyncio.timeout(20):
            first, second = await both
    assert isinstance(first, StoreBusy)
    assert not isinstance(second, BaseException)
    assert second.verdict == "ok"


async def test_more_than_may_wait_are_turned_away(fleet: Fleet, greeter: Greeter) -> None:
    truck = await fleet.new_device()
    answers = await asyncio.gather(
        *(greeter.greet(greeting(truck, attempt)) for attempt in range(301)), return_exceptions=True
    )
    assert sum(isinstance(answer, Crowded) for answer in answers) == 1


async def test_handshakes_given_up_meanwhile_are_not_greeted(
    fleet: Fleet, greeter: Greeter, counting: CountingPool
) -> None:
    truck = await fleet.new_device()
    waiting = asyncio.create_task(greeter.greet(greeting(truck)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await greeter.greet(greeting(truck))).conn_term == 1


async def test_a_postgres_that_is_away_fails_all_of_them_at_once() -> None:
    class Away:
        async def fetch(self, statement: str, *arguments: object) -> list[object]:
            raise StoreUnavailable("away")

    watch = StoreWatch(Random(1), deadline_s=10.0)
    greeter = Greeter(Away(), watch, pause_s=0.001, waiting_max=10)  # type: ignore[arg-type]
    task = asyncio.create_task(greeter.run())
    answers = await asyncio.gather(*(greeter.greet(greeting(f"t{n}")) for n in range(5)), return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert watch.failing == "away"
    task.cancel()
    await asyncio.wait([task])


async def test_a_device_admitted_when_nobody_waits_any_more_is_said_to_have_gone(fleet: Fleet, pool: Pool) -> None:
    truck = await fleet.new_device()
    abandoned: list[tuple[str, int]] = []
    heard = asyncio.Event()

    def on_abandoned(device_id: str, conn_term: int) -> None:
        abandoned.append((device_id, conn_term))
        heard.set()

    greeter = Greeter(
        pool, StoreWatch(Random(1), deadline_s=10.0), pause_s=0.0, waiting_max=10, on_abandoned=on_abandoned
    )
    running = asyncio.create_task(greeter.run())
    async with pool.transaction() as connection:
        await connection.execute("SELECT 1 FROM cursors WHERE device_id = $1 FOR UPDATE", truck)
        asking = asyncio.create_task(greeter.greet(greeting(truck)))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        async with asyncio.timeout(5):
            while not (await pool.fetch(waits))[0][0]:
                await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
    async with asyncio.timeout(5):
        await heard.wait()
    assert abandoned == [(truck, 1)]
    running.cancel()
    await asyncio.wait([running])


def new_names(count: int) -> list[str]:
    run = secrets.token_hex(4)
    return [f"new-{run}-{number}" for number in range(count)]


async def test_two_hundred_devices_never_seen_before_are_made_by_few_statements(
    pool: Pool, greeter: Greeter, counting: CountingPool
) -> None:
    names = new_names(200)
    answers = await asyncio.gather(*(greeter.greet(greeting(name), device_class="office") for name in names))
    assert {(answer.verdict, answer.device_class, answer.conn_term) for answer in answers} == {("ok", "office", 1)}
    assert counting.statements <= 8
    assert repr(greeter) == "Greeter(0 wait)"


async def test_a_device_that_another_is_just_making_does_not_stop_other_new_ones(pool: Pool, greeter: Greeter) -> None:
    stuck, free = new_names(2)
    async with pool.transaction() as connection:
        await connection.execute("INSERT INTO devices (device_id, class, epoch) VALUES ($1, 'truck', 1)", stuck)
        both = asyncio.gather(
            greeter.greet(greeting(stuck), device_class="truck"),
            greeter.greet(greeting(free), device_class="truck"),
            return_exceptions=True,
        )
        async with asyncio.timeout(20):
            first, second = await both
        await connection.execute("INSERT INTO cursors (device_id, epoch) VALUES ($1, 1)", stuck)
    assert isinstance(first, StoreBusy)
    assert not isinstance(second, BaseException)
    assert second.verdict == "ok"
    assert (await greeter.greet(greeting(stuck), device_class="truck")).verdict == "ok"


async def test_a_postgres_that_hangs_over_making_devices_is_given_up_and_said(pool: Pool) -> None:
    class Hanging(CountingPool):
        async def fetch(self, statement: str, *arguments: object) -> list[object]:
            if "INSERT INTO devices" in statement:
                await asyncio.get_running_loop().create_future()
            return await super().fetch(statement, *arguments)

    watch = StoreWatch(Random(1), deadline_s=0.2)
    greeter = Greeter(Hanging(pool), watch, pause_s=0.001, waiting_max=10)  # type: ignore[arg-type]
    task = asyncio.create_task(greeter.run())
    async with asyncio.timeout(10):
        answers = await asyncio.gather(
            *(greeter.greet(greeting(name), device_class="truck") for name in new_names(3)), return_exceptions=True
        )
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert watch.failing is not None
    task.cancel()
    await asyncio.wait([task])


async def test_a_value_that_postgres_refuses_fails_its_own_handshake_and_no_other(
    fleet: Fleet, greeter: Greeter, pool: Pool
) -> None:
    odd, well = await fleet.new_device(), await fleet.new_device()
    new, wrong = new_names(2)
    async with asyncio.timeout(20):
        answers = await asyncio.gather(
            greeter.greet(greeting(odd)._replace(jti="a\0b-jti-1", jti_expires_at=2e9)),
            greeter.greet(greeting(well)),
            greeter.greet(greeting(new), device_class="office"),
            greeter.greet(greeting(wrong), device_class="No Class"),
            return_exceptions=True,
        )
    assert isinstance(answers[0], asyncpg.DataError)
    assert isinstance(answers[3], asyncpg.CheckViolationError)
    assert [answer.verdict for answer in answers[1:3] if not isinstance(answer, BaseException)] == ["ok", "ok"]
    assert (await greeter.greet(greeting(well, 2))).conn_term == 2
