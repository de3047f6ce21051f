"""Runs asynchronous handlers on the worker's loop: with a deadline, cancelled in bounded time, their answers checked.

Which handler takes a job is decided without looking into the file: by the job's kind, else by the extension. Each
runs in a task of its own, so one that does not end when it is cancelled is left behind and named, and the attempt
ends all the same.
"""

import asyncio
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec
import structlog

from shared.clock import monotonic
from shared.cloud.threads import FileThreads
from shared.store.errors import StoreError
from shared.store.jobs import Claimed
from worker.errors import HandlerFailed, HandlerTimedOut, ServiceAway, WorkerError
from worker.handlers.answer_check import BadAnswer, check_answer
from worker.handlers.async_contract import (
    ASYNC_ENTRY_POINT_GROUP,
    CANCEL_GRACE_S,
    AsyncHandler,
    Context,
    Processed,
    TryAgain,
)
from worker.handlers.contract import DETAIL_MAX_CHARS, ERROR_MAX_CHARS, Answer, Refusal, Task
from worker.pool import Done, HandlerPool
from worker.pool_wire import Order
from worker.scratch import JobFolder

__all__ = ["Coroutines", "load_async_handlers"]

_log = structlog.get_logger(__name__)

_NOWHERE: Final = Path("/nonexistent")


class Coroutines:
    """The asynchronous handlers, by kind."""

    def __init__(
        self,
        handlers: Iterable[AsyncHandler],
        *,
        processes: HandlerPool,
        threads: FileThreads,
        grace_s: float = CANCEL_GRACE_S,
    ) -> None:
        self._handlers = {handler.kind: handler for handler in handlers}
        self._processes = processes
        self._threads = threads
        self._grace_s = grace_s
        self._left: set[asyncio.Task[Answer]] = set()

    def __repr__(self) -> str:
        return f"Coroutines({', '.join(self._handlers)}; {len(self._left)} left behind)"

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds they take."""
        return frozenset(self._handlers)

    def choose(self, kind: str, name: str) -> AsyncHandler | None:
        """The handler of a job; None when the processes' handlers are to be asked."""
        if kind != "unknown":
            return self._handlers.get(kind)
        extension = PurePosixPath(name).suffix.lower()
        return next((one for one in self._handlers.values() if extension and extension in one.extensions), None)

    def choose_small(self, job: Claimed) -> AsyncHandler | None:
        """The handler of a job that needs no file, neither for its request nor for its answer."""
        if job.inline_body is None:
            return None
        handler = self.choose(job.kind, job.name)
        return handler if getattr(handler, "small", False) else None

    async def run_small(
        self, handler: AsyncHandler, job: Claimed, options: Mapping[str, Any], *, timeout_s: float
    ) -> Done:
        """Its answer to a request that it gets as it is. Raises HandlerFailed, HandlerTimedOut, ServiceAway."""
        began = monotonic()
        task = Task(job.name, _NOWHERE, _NOWHERE, options, (job.inline_body or "").encode())
        context = Context(
            job.job_id, job.device_id, job.attempt, lambda: max(0.0, began + timeout_s - monotonic()), _no_process
        )
        answer = await self._supervised(handler, task, context, timeout_s)
        try:
            check_answer(answer, task)
        except (BadAnswer, msgspec.MsgspecError, TypeError) as error:
            raise HandlerFailed(f"handler {handler.kind}: {error}"[:ERROR_MAX_CHARS]) from None
        return Done(answer, handler.kind, monotonic() - began)

    async def run(
        self, handler: AsyncHandler, job: Claimed, folder: JobFolder, options: Mapping[str, Any], *, timeout_s: float
    ) -> Done:
        """Its answer. Raises HandlerFailed, HandlerTimedOut, ServiceAway, and what the pool raises."""
        began = monotonic()
        task = Task(job.name, folder.input, folder.output, options)

        async def process(kind: str) -> Processed:
            return await self._process(kind, job.name, folder, options, began + timeout_s - monotonic())

        context = Context(
            job.job_id, job.device_id, job.attempt, lambda: max(0.0, began + timeout_s - monotonic()), process
        )
        answer = await self._supervised(handler, task, context, timeout_s)
        try:
            await self._threads.run("", check_answer, answer, task)
        except (BadAnswer, msgspec.MsgspecError, TypeError) as error:
            raise HandlerFailed(f"handler {handler.kind}: {error}"[:ERROR_MAX_CHARS]) from None
        return Done(answer, handler.kind, monotonic() - began)

    async def _supervised(self, handler: AsyncHandler, task: Task, context: Context, timeout_s: float) -> Answer:
        working = asyncio.create_task(handler.handle(task, context), name=f"handler-{handler.kind}-{context.job_id}")
        try:
            done, _ = await asyncio.wait([working], timeout=timeout_s)
        except asyncio.CancelledError:
            await self._cancel(working, handler.kind)
            raise
        if not done:
            await self._cancel(working, handler.kind)
            raise HandlerTimedOut(f"the handler did not end within {timeout_s:g} s and was cancelled")
        try:
            return working.result()
        except Refusal as refusal:
            return refusal.answer()
        except TryAgain as error:
            raise ServiceAway(str(error)[:DETAIL_MAX_CHARS], after_s=error.after_s) from None
        except (WorkerError, StoreError):
            raise
        except asyncio.CancelledError:
            raise HandlerFailed(f"handler {handler.kind} cancelled itself") from None
        except Exception as error:  # noqa: BLE001 - a handler may raise anything; it costs this attempt
            _log.warning("handler failed", handler=handler.kind, error=type(error).__name__, exc_info=True)
            raise HandlerFailed(f"handler {handler.kind}: {type(error).__name__}: {error}"[:ERROR_MAX_CHARS]) from None

    async def _cancel(self, working: "asyncio.Task[Answer]", kind: str) -> None:
        """Cancel it and wait for its end, but not for ever, and not through another cancellation."""
        working.cancel()
        self._left.add(working)
        working.add_done_callback(self._forget)
        await asyncio.wait([working], timeout=self._grace_s)
        if not working.done():
            _log.error("handler does not end though it was cancelled", handler=kind)

    def _forget(self, working: "asyncio.Task[Answer]") -> None:
        self._left.discard(working)
        if not working.cancelled() and (error := working.exception()) is not None:
            _log.info("handler ended after it was cancelled", error=f"{type(error).__name__}: {error}"[:200])

    async def _process(
        self, kind: str, name: str, folder: JobFolder, options: Mapping[str, Any], left_s: float
    ) -> Processed:
        output = folder.path / f"process-{kind}"
        await self._threads.run("", _make, output)
        order = Order(kind, name, str(folder.input), str(output), dict(options))
        done = await self._processes.run(order, timeout_s=max(0.1, left_s))
        return Processed(done.answer, output)


async def _no_process(kind: str) -> Processed:
    raise HandlerFailed(f"a small handler has no file for a process of kind {kind}")


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700)


def load_async_handlers(
    builtin: Iterable[AsyncHandler], plug_ins: Iterable[EntryPoint] | None = None
) -> list[AsyncHandler]:
    """The built-in ones and those of installed packages, which may take a built-in's place. Bad ones are left out."""
    handlers = {handler.kind: handler for handler in builtin}
    found = entry_points(group=ASYNC_ENTRY_POINT_GROUP) if plug_ins is None else plug_ins
    for entry in sorted(found, key=lambda e: e.name):
        try:
            handler: AsyncHandler = entry.load()()
            if handler.kind != entry.name:
                raise ValueError(f"its kind is {handler.kind!r}, its entry point says {entry.name!r}")
            if not asyncio.iscoroutinefunction(handler.handle):
                raise TypeError("its `handle` is no coroutine function")
            frozenset(handler.extensions)
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything at import
            problem = f"{entry.name} ({entry.value}): {type(error).__name__}: {error}"[:500]
            _log.error("handler left out", problem=problem)
            continue
        handlers[handler.kind] = handler
    return list(handlers.values())
