"""Ending tasks that do not listen the first time."""

import asyncio

import pytest

from watcher.tasks import beside, end, woken


async def test_a_task_that_lost_its_first_cancellation_is_told_again() -> None:
    told = 0

    async def deaf() -> None:
        nonlocal told
        while told < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                told += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end([task])
    assert task.done()


async def test_what_an_ended_task_raised_is_dropped() -> None:
    async def fail() -> None:
        raise ValueError("dropped")

    async with asyncio.timeout(5):
        await end([asyncio.create_task(fail())])
    await end([])


async def test_the_first_that_ends_ends_those_beside_it() -> None:
    other: list[str] = []

    async def first() -> None:
        raise ValueError("first")

    async def second() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            other.append("ended")

    with pytest.raises(ValueError, match="first"):
        async with asyncio.timeout(5), beside({"second": second(), "first": first()}):
            raise AssertionError("what failed is raised before the block")
    assert other == ["ended"]


async def test_a_wait_is_over_when_woken_or_when_its_time_is_and_takes_the_call_back() -> None:
    event = asyncio.Event()
    async with asyncio.timeout(5):
        await woken(event, 0.01)
        event.set()
        await woken(event, 3600.0)
    assert not event.is_set()
