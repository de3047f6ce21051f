"""What waits on this device, in memory and in its file, kept the same; and the results, given one after the other.

The file blocks, so it is worked in a thread of its own. What is written is carried to its end even if whoever asked for
it is cancelled: memory and file must not part.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from device.changes import Changes
from device.errors import ClientClosed, OutboxError
from device.outbox import Batch, Change, Outbox, Pace, Wait
from device.outbox_file import OVERHEAD_BYTES, OutboxFile, OutboxLimits, with_base
from device.position_file import OnCorrupt
from device.results import Answer, Fault, Result
from device.submission import submission
from shared.clock import monotonic, wall
from shared.protocol.operations import Operation

__all__ = ["Keeper"]

_log = logging.getLogger("fleetwire.device")
T = TypeVar("T")


class Keeper:
    """Made by `open()`. `changes` is notified whenever there may be something to send or to take."""

    def __init__(
        self, file: OutboxFile, thread: ThreadPoolExecutor, rand: Random, pace: Pace, changes: Changes
    ) -> None:
        self.outbox = Outbox(rand, pace)
        self.changes = changes
        self._file = file
        self._thread = thread
        self._rand = rand
        self._pace = pace
        self._writing: set[asyncio.Task[Any]] = set()
        # Memory and file change together: what is submitted sees either all of an answer or nothing of it.
        self._turn = asyncio.Lock()
        self._in_hand: int | None = None
        self._is_stale = False
        self._asking = False
        self._end: BaseException | None = None
        self._is_closed = False

    @classmethod
    async def open(
        cls,
        folder: Path,
        device_id: str,
        *,
        limits: OutboxLimits,
        on_corrupt: OnCorrupt,
        rand: Random,
        pace: Pace,
        changes: Changes,
    ) -> "Keeper":
        """Lock and read. Raises OutboxError."""
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"fleetwire-outbox-{device_id}")
        try:
            file = await asyncio.get_running_loop().run_in_executor(
                thread, partial(OutboxFile, folder, device_id, limits=limits, on_corrupt=on_corrupt)
            )
        except BaseException:
            thread.shutdown(wait=False)
            raise
        if file.set_aside is not None:
            _log.error("the outbox was damaged and is now %s; the operations in it are not sent", file.set_aside)
        keeper = cls(file, thread, rand, pace, changes)
        try:
            await keeper._load()
        except BaseException:
            await keeper.close()
            raise
        return keeper

    def __repr__(self) -> str:
        return f"Keeper({self.outbox}, {self._file})"

    @property
    def waiting(self) -> int:
        """Operations that are not settled."""
        return self._file.counts.waiting

    @property
    def waiting_bytes(self) -> int:
        """How much of a batch all of them take at most."""
        return self._file.counts.waiting_bytes + OVERHEAD_BYTES * self.waiting

    @property
    def results(self) -> int:
        """Results that the application has not taken."""
        return self._file.counts.results

    # -- operations

    async def submit(self, operation: Mapping[str, Any] | Operation, after: str | None) -> str:
        """Queue an operation, durably; its `op_id`. Raises OperationInvalid, OutboxFull, OutboxError, ClientClosed."""
        one = submission(operation, after)

        async def add() -> None:
            async with self._turn:
                queued = await self._in_thread(self._file.add, one)
                if queued is not None:
                    self.outbox.add(queued)
            self._changed()

        await self._carried(add())
        return one.op_id

    async def begin(self, batch: Batch) -> bytes:
        """The operations of a batch as they go out; a process that is started after this one was killed will wait."""
        await self._note(self.outbox.while_under_way(monotonic()))
        try:
            bodies = await self._in_thread(self._file.bodies, [item.op_id for item in batch.items])
        except OutboxError:
            self._is_stale = True
            raise
        texts = (with_base(body, item.base) for body, item in zip(bodies, batch.items, strict=True))
        return ",".join(texts).encode()

    async def on_results(self, answers: list[Answer]) -> None:
        """A batch was answered. Raises OutboxError when that cannot be written down: then it is as if it had not."""
        await self._carried(self._settle(lambda now: self.outbox.on_results(answers, now)))

    async def on_refused(self, http: int, fault: Fault) -> None:
        """The server cannot read a batch. Raises as `on_results`."""
        await self._carried(self._settle(lambda now: self.outbox.on_refused(http, fault, now)))

    async def on_failed(self, *, wish_s: float | None = None, answered: bool = False) -> None:
        """It is not known what became of a batch, or the server took none of it. Raises OutboxError."""
        self.outbox.on_failed(monotonic(), wish_s=wish_s, answered=answered)
        await self._carried(self._note(self.outbox.wait))

    async def recover(self) -> None:
        """After an OutboxError: what could not be written down has not happened. Raises OutboxError, to be tried
        again."""
        async with self._turn:
            tries = self.outbox.wait.tries
            if self._is_stale:
                await self._load()
                self._is_stale = False
                self.outbox.pause(monotonic(), tries)
            elif self.outbox.under_way is not None:
                self.outbox.on_failed(monotonic(), answered=True)
        self.changes.notify()

    async def wait_settled(self) -> None:
        """Return when no operation waits. The deadline is the caller's."""
        while self.waiting:
            self._check_open()
            if self._end is not None:
                raise self._end
            await self.changes.wait()

    # -- results

    async def next_result(self) -> Result:
        """The next result; the one before is taken. Raises what ended the client when there is none left."""
        if self._asking:
            raise RuntimeError("a client has one loop of results at a time")
        self._asking = True
        try:
            await self.finish()
            while True:
                self._check_open()
                result: Result | None = await self._in_thread(self._file.result_after, 0)
                if result is not None:
                    await self._in_thread(self._file.give, result.number)
                    self._in_hand = result.number
                    return result
                if self._end is not None:
                    raise self._end
                if not self.results:
                    await self.changes.wait()
        finally:
            self._asking = False

    async def finish(self, result: Result | None = None) -> None:
        """The body of the result in hand, if there is one, has ended."""
        number = self._in_hand
        if number is None or (result is not None and result.number != number):
            return

        async def take() -> None:
            await self._in_thread(self._file.take, number)
            if self._in_hand == number:
                self._in_hand = None
            self._changed()

        await self._carried(take())

    def give_back(self) -> None:
        """A new loop begins: what an older one left unfinished comes again."""
        self._in_hand = None

    # -- the end

    def end(self, cause: BaseException) -> None:
        """Nothing more is sent in this run."""
        self._end = self._end or cause
        self.changes.notify()

    async def close(self) -> None:
        """Close and unlock the file, after what is being written. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        await asyncio.gather(*self._writing, return_exceptions=True)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        finally:
            self._thread.shutdown(wait=False)
            self.changes.notify()

    # -- inside

    async def _load(self) -> None:
        saved = await self._in_thread(self._file.load, wall(), monotonic())
        self.outbox = Outbox(self._rand, self._pace, queued=saved.queued, wait=saved.wait)
        self._changed()

    async def _settle(self, decide: Callable[[float], Change]) -> None:
        async with self._turn:
            change = decide(monotonic())
            try:
                await self._in_thread(
                    partial(self._file.settle, change, self.outbox.wait, wall=wall(), now=monotonic())
                )
            except OutboxError:
                self._is_stale = True
                raise
        self._changed()

    async def _note(self, wait: Wait) -> None:
        await self._in_thread(partial(self._file.note, wait, wall=wall(), now=monotonic()))

    def _changed(self) -> None:
        self.outbox.hold(self._file.is_full_of_results)
        self.changes.notify()

    def _check_open(self) -> None:
        if self._is_closed:
            raise self._end or ClientClosed("the client was closed")

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def _carried(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it to its end, whoever is cancelled meanwhile."""
        task = asyncio.ensure_future(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        task.add_done_callback(_seen)
        await asyncio.shield(task)


def _seen(task: "asyncio.Task[Any]") -> None:
    """Whoever asked may be gone; then nobody is told of a failure, and nothing was changed."""
    if not task.cancelled():
        task.exception()
