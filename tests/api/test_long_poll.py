import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api import long_poll
from api.long_poll import PER_DEVICE_MAX, LongPolls, Waiter
from shared.protocol.position import Position
from shared.store import devices
from shared.store.errors import StoreUnavailable
from shared.store.pool import Pool
from tests.api.conftest import record

PERIOD_S = 0.01


@pytest.fixture
async def polls(pool: Pool) -> AsyncIterator[LongPolls]:
    made = LongPolls(pool, period_s=PERIOD_S, waiting_max=1000)
    loop = asyncio.create_task(made.run())
    yield made
    loop.cancel()
    await asyncio.wait([loop])


def join(polls: LongPolls, device_id: str = "truck-7", seq: int = 0, *, max_rows: int = 10) -> Waiter:
    waiter = polls.join(device_id, Position(1, seq), max_rows=max_rows, max_bytes=65_536)
    assert waiter is not None
    return waiter


async def seqs(waiter: Waiter) -> list[int]:
    async with asyncio.timeout(10):
        page = await waiter.page
    assert page is not None
    return [event.seq for event in page.events]


async def test_waits_of_one_device_get_each_what_they_have_not_seen(polls: LongPolls, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    await record(pool, "truck-7", *"abc")
    waiters = [join(polls, seq=2), join(polls, seq=0), join(polls, seq=0, max_rows=2), join(polls, seq=3)]
    assert [await seqs(waiter) for waiter in waiters[:3]] == [[3], [1, 2, 3], [1, 2]]
    assert not waiters[3].page.done()
    await record(pool, "truck-7", "d")
    assert await seqs(waiters[3]) == [4]


async def test_however_many_wait_a_round_costs_few_statements(
    polls: LongPolls, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"truck-{n}" for n in range(60)]
    for name in names:
        await devices.ensure(pool, name, "truck")
    monkeypatch.setattr(long_poll, "READ_DEVICES_MAX", 20)
    statements: list[str] = []
    fetch = pool.fetch

    async def counting(statement: str, *arguments: Any) -> list[Any]:
        statements.append(statement)
        return await fetch(statement, *arguments)

    waiters = [join(polls, name) for name in names]
    for name in names:
        await record(pool, name, "a")
    monkeypatch.setattr(pool, "fetch", counting)
    for waiter in waiters:
        assert await seqs(waiter) == [1]
    assert len(statements) <= 8  # a look and three reads, or that twice when a round had begun


async def test_without_anybody_waiting_nothing_is_asked(
    polls: LongPolls, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    waiter = join(polls)
    polls.leave(waiter)
    polls.leave(waiter)
    assert polls.waiting == 0

    async def never(statement: str, *arguments: Any) -> list[Any]:
        raise AssertionError(statement)

    await asyncio.sleep(0)
    monkeypatch.setattr(pool, "fetch", never)
    for _ in range(5):
        await asyncio.sleep(PERIOD_S)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a mistake of ours")])
async def test_a_read_that_fails_ends_no_wait(
    polls: LongPolls, pool: Pool, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(long_poll, "_PAUSE_S", 0.01)
    await devices.ensure(pool, "truck-7", "truck")
    failed = asyncio.Event()
    fetch = pool.fetch

    async def failing(statement: str, *arguments: Any) -> list[Any]:
        failed.set()
        raise error

    monkeypatch.setattr(pool, "fetch", failing)
    waiter = join(polls)
    async with asyncio.timeout(5):
        await failed.wait()
    await asyncio.sleep(0)
    assert not waiter.page.done()
    monkeypatch.setattr(pool, "fetch", fetch)
    await record(pool, "truck-7", "a")
    assert await seqs(waiter) == [1]


async def test_after_close_every_wait_is_over_at_once(polls: LongPolls) -> None:
    before = join(polls)
    polls.close()
    assert await before.page is None
    assert await join(polls).page is None


async def test_the_bound_holds_and_a_device_takes_few_places_of_it(pool: Pool) -> None:
    polls = LongPolls(pool, period_s=1, waiting_max=PER_DEVICE_MAX + 1)
    waiters = [join(polls) for _ in range(PER_DEVICE_MAX + 3)]
    assert polls.waiting == PER_DEVICE_MAX
    assert [waiter.page.done() for waiter in waiters] == [True] * 3 + [False] * PER_DEVICE_MAX
    other = join(polls, "truck-8")
    assert polls.join("truck-9", Position(1, 0), max_rows=1, max_bytes=1) is None
    polls.leave(other)
    assert polls.waiting == PER_DEVICE_MAX
    assert polls.join("truck-9", Position(1, 0), max_rows=1, max_bytes=1) is not None
