"""How a process lives: one coroutine on uvloop, told to stop by SIGTERM or SIGINT, dead with its supervisor.

The first signal only sets `Stop`; the process then finishes in the order its `app.py` says. A second signal ends it at
once. A child dies by SIGKILL when its parent dies, also while it is stopped or stuck: everything durable is committed
work, so there is nothing that a killed process could still save, and an orphan would go on holding ports and leases.
"""

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog

from shared.clock import monotonic
from shared.parent_death import die_with_parent

__all__ = [
    "PARENT_PID_VARIABLE",
    "Stop",
    "cancelled",
    "raise_open_file_limit",
    "run",
    "until_stop_or_failure",
]

PARENT_PID_VARIABLE: Final = "FLEETWIRE_PARENT_PID"
OPEN_FILES_MAX: Final = 1_048_576
OPEN_FILES_LOW: Final = 4096

_log = structlog.get_logger(__name__)


class Stop:
    """The wish that this process ends. Set once, by a signal or by the process itself; never taken back."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.reason: str | None = None
        self.signals = 0

    def __repr__(self) -> str:
        return f"Stop({self.reason or 'not requested'})"

    @property
    def requested(self) -> bool:
        """Whether the process was asked to stop."""
        return self._event.is_set()

    def request(self, reason: str) -> None:
        """Ask the process to stop. The first reason stays."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    async def wait(self) -> None:
        """Return once the process was asked to stop."""
        await self._event.wait()

    async def wait_for(self, seconds: float) -> bool:
        """Sleep, but not beyond the wish to stop. True when the process was asked to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        return self._event.is_set()


async def until_stop_or_failure(stop: Stop, loops: set[asyncio.Task[None]]) -> bool:
    """Wait for the wish to end. Whether one of the loops that must never end did so first."""
    wish = asyncio.create_task(stop.wait(), name="stop")
    done, _ = await asyncio.wait({wish, *loops}, return_when=asyncio.FIRST_COMPLETED)
    wish.cancel()
    for task in done - {wish}:
        error = None if task.cancelled() else task.exception()
        _log.error("a loop of the process ended", loop=task.get_name(), exc_info=error)
    return bool(done - {wish})


async def cancelled(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel them and wait for at most 2 s until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=2.0)


def run(main: Callable[[Stop], Coroutine[Any, Any, int | None]], *, environ: Mapping[str, str] | None = None) -> int:
    """Run `main(stop)` to its end and give the exit status: what it returned, 0 for None, 1 when it raised.

    `environ` is the process's environment, read for the supervisor's pid only; `app.main` passes `os.environ`.
    """
    if parent := (environ or {}).get(PARENT_PID_VARIABLE):
        die_with_parent(_parent_pid(parent))
    raise_open_file_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_supervised(main))


async def _supervised(main: Callable[[Stop], Coroutine[Any, Any, int | None]]) -> int:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, _on_signal, stop, signum)
    began = monotonic()
    try:
        status = await main(stop) or 0
    except Exception:  # noqa: BLE001 - the last frame of the process: say it and end
        _log.exception("process failed", seconds=round(monotonic() - began, 3))
        return 1
    finally:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)
    _log.info("process ended", status=status, reason=stop.reason, seconds=round(monotonic() - began, 3))
    return status


def _on_signal(stop: Stop, signum: signal.Signals) -> None:
    # Counted apart from the wish: a process that is leaving because an operator asked it to may be told so once more.
    stop.signals += 1
    if stop.signals > 1:
        _log.warning("second signal, ending at once", signal=signum.name)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(128 + signum)
    _log.info("stop requested", signal=signum.name)
    stop.request(signum.name)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def raise_open_file_limit() -> tuple[int, int]:
    """Raise the soft limit of open files to the hard one and say what was allowed, aloud when it is little.

    Returns (soft, hard); -1 is no limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    low = soft != resource.RLIM_INFINITY and soft < OPEN_FILES_LOW
    say = _log.warning if low else _log.debug
    say("open files allowed", allowed=soft, hard_limit=hard)
    return soft, hard


def _parent_pid(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise SystemExit(f"{PARENT_PID_VARIABLE}={text!r} is wrong: it must be the process id of the supervisor")
    return int(text)
