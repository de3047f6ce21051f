"""A real worker that kills itself (kill -9) when it comes to a step of a response for the n-th time.

`python -m loadtests.job_faults.crashing_worker STEP N`. The worker's own code runs; only at the step, from outside, is
the process ended. A step that is renamed in the worker fails here at once, and one that is never reached fails the run.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import worker.job_runner
from shared.bus.publisher import Publisher
from shared.store import jobs, log
from worker import app
from worker.pool import HandlerPool
from worker.response_writer import ResponseWriter

__all__ = ["STEPS"]


class _Fate:
    def __init__(self, left: int) -> None:
        self.left = left

    def strike(self, *_: object) -> None:
        self.left -= 1
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


Hook = Callable[[_Fate], None]


def _after(place: Any, name: str, *, if_any: bool = False) -> Hook:
    """Strike when the coroutine function has returned (something, with `if_any`)."""
    original = getattr(place, name)

    def hook(fate: _Fate) -> None:
        async def wrapped(*arguments: Any, **named: Any) -> Any:
            result = await original(*arguments, **named)
            if result or not if_any:
                fate.strike()
            return result

        setattr(place, name, wrapped)

    return hook


def _before(place: Any, name: str) -> Hook:
    """Strike before the function is called."""
    original = getattr(place, name)

    def hook(fate: _Fate) -> None:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            fate.strike()
            return original(*arguments, **named)

        setattr(place, name, wrapped)

    return hook


def _within(place: Any, name: str) -> Hook:
    """Strike when the coroutine has begun and waits."""
    original = getattr(place, name)

    def hook(fate: _Fate) -> None:
        async def wrapped(*arguments: Any, **named: Any) -> Any:
            running = asyncio.ensure_future(original(*arguments, **named))
            await asyncio.sleep(0.001)
            fate.strike()
            return await running

        setattr(place, name, wrapped)

    return hook


STEPS: Final[dict[str, Hook]] = {
    "claimed": _after(jobs, "claim", if_any=True),
    "request read": _after(worker.job_runner, "stage"),
    "handler at work": _within(HandlerPool, "_exchange"),
    "handler answered": _after(HandlerPool, "run"),
    "attempt failed": _before(jobs, "retry"),
    "first file stored": _after(ResponseWriter, "_put_file"),
    "all files stored": _after(ResponseWriter, "put_files"),
    "response.json stored": _after(ResponseWriter, "commit"),
    "event written, not committed": _after(log, "append", if_any=True),
    "committed": _before(Publisher, "offer"),
}
"""The steps of a response, in their order."""


if __name__ == "__main__":
    STEPS[sys.argv[1]](_Fate(int(sys.argv[2])))
    sys.exit(app.main())
