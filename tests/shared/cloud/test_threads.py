import asyncio
import errno
import threading

import pytest

from shared.cloud.errors import NotFound, StoreBusy, StoreFull, StoreUnavailable
from shared.cloud.threads import FileThreads


async def test_a_call_answers_from_a_thread_of_the_store() -> None:
    threads = FileThreads(1)
    assert (await threads.run("f", lambda: threading.current_thread().name)).startswith("cloud")
    await threads.close()


async def test_errors_of_the_system_become_errors_of_the_store() -> None:
    threads = FileThreads(1)

    def fail(number: int) -> None:
        raise OSError(number, "told")

    for number, kind in ((errno.ENOENT, NotFound), (errno.ENOSPC, StoreFull), (errno.EIO, StoreUnavailable)):
        with pytest.raises(kind, match="'the/path'"):
            await threads.run("the/path", fail, number)
    await threads.close()


async def test_more_calls_than_may_wait_are_refused_but_not_those_that_give_back() -> None:
    threads = FileThreads(1, waiting_max=1)
    go_on = threading.Event()
    running = [asyncio.create_task(threads.run("f", go_on.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await threads.run("f", go_on.wait)
    given_back = asyncio.create_task(threads.run_always("f", lambda: "given back"))
    await asyncio.sleep(0)
    go_on.set()
    assert await given_back == "given back"
    await asyncio.gather(*running)
    assert repr(threads) == "FileThreads(1, 0 unfinished)"
    await threads.close()


async def test_a_disk_that_hangs_costs_the_caller_the_deadline_and_leaks_nothing() -> None:
    threads = FileThreads(1, deadline_s=0.05)
    go_on, released = threading.Event(), asyncio.Event()

    def opens() -> str:
        go_on.wait()
        return "made too late"

    with pytest.raises(StoreUnavailable, match="did not answer"):
        await threads.run("f", opens, release=lambda made: released.set())
    go_on.set()
    async with asyncio.timeout(5):
        await released.wait()
    await threads.close()


async def test_what_a_cancelled_call_made_is_released_at_whatever_moment_it_was_cancelled() -> None:
    threads = FileThreads(2)
    made: list[int] = []
    kept: list[int] = []
    released: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number

    async def caller(number: int) -> None:
        kept.append(await threads.run("f", make, number, release=released.append))

    for number in range(200):
        task = asyncio.create_task(caller(number))
        for _ in range(number % 20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await threads.close()
    await asyncio.sleep(0)
    assert sorted(kept + released) == sorted(made)
    assert released
