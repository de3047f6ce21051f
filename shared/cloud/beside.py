"""Something done again and again while a block runs: a lease renewed, a claim kept."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

__all__ = ["every"]


@asynccontextmanager
async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """`work` every so many seconds, first after as many. What it raises is raised when the block ends."""

    async def run() -> None:
        while True:
            await asyncio.sleep(seconds)
            await work()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended
