"""The greeting statement, gathered: all handshakes of a few milliseconds, of a wave more, are admitted by one.

A wave of five thousand devices costs a few dozen statements. Each device is in a statement at most once; its next
handshake waits for the next one. When the one statement cannot get a lock, or Postgres refuses it, because of one
device, its handshakes are greeted one by one, so that the others do not wait or fail with it. The devices of a batch
that nobody has seen before are made together, by their first valid token, and greeted again.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeAlias

from hub.errors import Crowded
from hub.gathering import Gathering
from hub.store_watch import StoreWatch
from shared.clock import monotonic
from shared.store import cursors, devices
from shared.store.cursors import Greeted, Greeting
from shared.store.errors import StoreBusy, StoreError
from shared.store.pool import Pool

__all__ = ["Greeter"]

BATCH_MAX: Final = 500
ONE_BY_ONE_AT_ONCE: Final = 4


class _Asked(NamedTuple):
    """One handshake; `make_as` is the class to make its device with, None when that is not for it to do."""

    greeting: Greeting
    make_as: str | None


_Batch: TypeAlias = dict[str, tuple[asyncio.Future[Greeted], _Asked]]


class Greeter:
    """`greet()` waits for the answer of the statement; `run()` is the loop that makes it."""

    def __init__(
        self,
        pool: Pool,
        watch: StoreWatch,
        *,
        pause_s: float,
        waiting_max: int,
        on_abandoned: Callable[[str, int], None] = lambda device_id, conn_term: None,
    ) -> None:
        """`on_abandoned` hears of devices that were admitted when nobody waited for it any more."""
        self._pool = pool
        self._watch = watch
        self._gathering = Gathering(pause_s)
        self._waiting_max = waiting_max
        self._on_abandoned = on_abandoned
        self._waiting: dict[asyncio.Future[Greeted], _Asked] = {}
        self._work = asyncio.Event()
        self._apart: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Greeter({len(self._waiting)} wait)"

    async def greet(self, greeting: Greeting, *, device_class: str | None = None) -> Greeted:
        """Admit one connection, of a device that is made with this class if there is none.

        Raises Crowded, StoreError, and what Postgres has against a value; the caller has the deadline.
        """
        if len(self._waiting) >= self._waiting_max:
            raise Crowded
        answer: asyncio.Future[Greeted] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = _Asked(greeting, device_class)
        self._work.set()
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._abandon(greeting.device_id, answer.result())  # answered in the turn in which it was cancelled
            raise
        finally:
            self._waiting.pop(answer, None)

    async def run(self) -> None:
        """Greet until cancelled."""
        try:
            while True:
                await self._work.wait()
                await asyncio.sleep(self._gathering.delay(monotonic()))
                batch = self._take()
                if batch:
                    self._gathering.took(len(batch), monotonic())
                    await self._greet(batch)
        finally:
            for task in self._apart:
                task.cancel()

    def _take(self) -> _Batch:
        batch: _Batch = {}
        for answer, asked in list(self._waiting.items()):
            device_id = asked.greeting.device_id
            if device_id not in batch and len(batch) < BATCH_MAX:
                batch[device_id] = answer, asked
                del self._waiting[answer]
        if not self._waiting:
            self._work.clear()
        return batch

    async def _greet(self, batch: _Batch) -> None:
        try:
            async with self._watch.asking():
                answers = await cursors.greet(self._pool, [asked.greeting for _, asked in batch.values()])
        except Exception as error:  # noqa: BLE001 - a value that Postgres refuses: its handshake gets it, no other
            self._failed(batch, error)
        else:
            unknown: _Batch = {}
            for device_id, (answer, asked) in batch.items():
                greeted = answers[device_id]
                if answer.done():
                    self._abandon(device_id, greeted)
                elif greeted.verdict == "unknown_device" and asked.make_as is not None:
                    unknown[device_id] = answer, asked
                else:
                    answer.set_result(greeted)
            if unknown:
                self._begin_apart(self._make(unknown), "make devices")

    async def _make(self, batch: _Batch) -> None:
        try:
            async with self._watch.asking():
                await devices.ensure_all(self._pool, {name: asked.make_as or "" for name, (_, asked) in batch.items()})
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(batch, error)
        else:
            for answer, asked in batch.values():
                if not answer.done():
                    self._waiting[answer] = _Asked(asked.greeting, None)
            self._work.set()

    def _failed(self, batch: _Batch, error: Exception) -> None:
        # A Postgres that is away is away for each of them.
        if len(batch) == 1 or (isinstance(error, StoreError) and not isinstance(error, StoreBusy)):
            for answer, _ in batch.values():
                if not answer.done():
                    answer.set_exception(error)
        else:
            self._begin_apart(self._greet_one_by_one(batch), "greet one by one")

    def _begin_apart(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Beside the loop, or whoever comes meanwhile would wait for that one lock, too."""
        task = asyncio.create_task(work, name=name)
        self._apart.add(task)
        task.add_done_callback(self._apart.discard)

    def _abandon(self, device_id: str, greeted: Greeted) -> None:
        if greeted.verdict == "ok":
            self._on_abandoned(device_id, greeted.conn_term)

    async def _greet_one_by_one(self, batch: _Batch) -> None:
        turns = asyncio.Semaphore(ONE_BY_ONE_AT_ONCE)

        async def one(device_id: str, answer: asyncio.Future[Greeted], asked: _Asked) -> None:
            async with turns:
                if not answer.done():
                    await self._greet({device_id: (answer, asked)})

        await asyncio.gather(*(one(device_id, *entry) for device_id, entry in batch.items()))
