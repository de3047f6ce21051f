"""Ending tasks that do not listen the first time."""

import asyncio

from watcher.tasks import end


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
