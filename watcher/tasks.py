"""Tasks that run beside each other: waiting for the first that ends, waking, and ending them for certain.

A cancellation can get lost: below Python 3.12 a library's `wait_for` whose inner call completes in the same turn
returns its result instead. A loop that met this would run on while its owner waits for it for ever, so it is told
again.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

_log = structlog.get_logger(__name__)

_AGAIN_S: Final = 0.5
_ROUNDS: Final = 8


async def end(tasks: "Iterable[asyncio.Task[Any]]") -> None:
    """Cancel the tasks and wait until they have ended, for a few seconds at most. What they raise is dropped."""
    pending = set(tasks)
    for _ in range(_ROUNDS):
        for task in pending:
            task.cancel()
        if pending:
            ended, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
            for task in ended:
                if not task.cancelled():
                    task.exception()  # looked at, or it would be reported as never retrieved
        if not pending:
            return
    _log.error("tasks do not end", tasks=[task.get_name() for task in pending])


@asynccontextmanager
async def beside(loops: Mapping[str, Coroutine[Any, Any, Any]]) -> "AsyncIterator[list[asyncio.Task[Any]]]":
    """Tasks by name, given once one of them has ended; what it raised is raised. They end with the block."""
    tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        yield tasks
    finally:
        await end(tasks)


async def woken(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, which is taken back, or the time is over."""
    if seconds > 0 and not event.is_set():
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
    event.clear()
