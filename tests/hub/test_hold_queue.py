"""The queue of connections that hold for a moment."""

import asyncio

from hub.hold_queue import HoldQueue


async def test_one_that_fails_does_not_stop_the_others() -> None:
    loop = asyncio.get_running_loop()
    seen: list[str] = []
    done = asyncio.Event()
    problems: list[object] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))

    class Fails:
        def on_hold_over(self) -> None:
            raise RuntimeError("test")

    class Holds:
        def on_hold_over(self) -> None:
            seen.append("held")
            done.set()

    queue = HoldQueue(0.001, loop)
    queue.add(Fails())
    queue.add(Holds())
    async with asyncio.timeout(5):
        await done.wait()
    assert seen == ["held"]
    assert len(problems) == 1
