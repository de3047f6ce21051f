"""Ending tasks for certain.

A cancellation can get lost: below Python 3.12 a library's `wait_for` whose inner call completes in the same turn
returns its result instead. A loop that met this would run on while its owner waits for it for ever, so it is told
again.
"""

import asyncio
from collections.abc import Iterable
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
