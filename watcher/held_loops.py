"""The loops of the feeds that this process holds, of whatever kind: begun under a lease, ended with it.

A loop that ends by itself has either been fenced or has met a bug; both mean that its lease is given up, and whoever
claims the feed next goes on from what was committed. After a bug that waits a little, so that one that happens at once
does not spin.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import structlog

from shared.store.errors import TermOver
from shared.telemetry.metrics import WATCHER_FEEDS_OWNED, WATCHER_LEASE_CHANGES
from watcher.tasks import end

_log = structlog.get_logger(__name__)

_CRASH_PAUSE_S: Final = 2.0


class Loop(Protocol):
    """What works on one feed under one term."""

    @property
    def feed_id(self) -> str: ...

    @property
    def term(self) -> int: ...

    def run(self) -> Coroutine[Any, Any, None]:
        """Until stopped. Raises TermOver, and what a bug raises."""
        ...

    def wake(self) -> None:
        """The lease was renewed."""
        ...

    def stop(self) -> None:
        """Finish what was begun, and begin no other."""
        ...


L = TypeVar("L", bound=Loop)


class _Running(NamedTuple, Generic[L]):
    loop: L
    task: "asyncio.Task[None]"


class HeldLoops(Generic[L]):
    """`begin` with a lease, `ending` and `ended` (or `end`) when it goes. At most one loop of a feed is here."""

    def __init__(self, give_up: Callable[[str, int], Awaitable[None]]) -> None:
        """`give_up(feed, term)` is called when a loop ended by itself."""
        self._give_up = give_up
        self._running: dict[str, _Running[L]] = {}
        self._giving: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"HeldLoops({len(self._running)} run, {len(self._giving)} are given up)"

    def __len__(self) -> int:
        return len(self._running)

    @property
    def feed_ids(self) -> list[str]:
        """The feeds whose loops are here."""
        return list(self._running)

    @property
    def loops(self) -> list[L]:
        """All of them."""
        return [running.loop for running in self._running.values()]

    def get(self, feed_id: str) -> L | None:
        """The loop of a feed, if it is held."""
        running = self._running.get(feed_id)
        return None if running is None else running.loop

    def begin(self, loop: L) -> None:
        """Run it."""
        task = asyncio.create_task(loop.run(), name=f"feed {loop.feed_id}")
        self._running[loop.feed_id] = _Running(loop, task)
        task.add_done_callback(lambda ended: self._on_ended(loop, ended))
        WATCHER_LEASE_CHANGES.labels("gained").inc()
        WATCHER_FEEDS_OWNED.inc()

    def on_renewed(self) -> None:
        """Feeds whose lease was in doubt may go on."""
        for loop in self.loops:
            loop.wake()

    def ending(self, feed_ids: Collection[str], change: str) -> "list[asyncio.Task[None]]":
        """Tell the loops to stop; from here on the feeds may be claimed again. The tasks are for `ended`."""
        ending = [running for feed_id in feed_ids if (running := self._running.pop(feed_id, None)) is not None]
        for running in ending:
            running.loop.stop()
            WATCHER_LEASE_CHANGES.labels(change).inc()
            WATCHER_FEEDS_OWNED.dec()
        return [running.task for running in ending]

    async def ended(self, tasks: "Collection[asyncio.Task[None]]", *, grace_s: float) -> None:
        """Until they have ended: for `grace_s`, which bounds the wait, by themselves, and then at once."""
        if tasks and grace_s:
            await asyncio.wait(tasks, timeout=grace_s)
        await end(tasks)

    async def close(self) -> None:
        """End all loops at once, whatever becomes of their leases."""
        await self.ended(self.ending(self.feed_ids, "ended"), grace_s=0.0)
        await end(self._giving)

    def _on_ended(self, loop: L, task: "asyncio.Task[None]") -> None:
        running = self._running.get(loop.feed_id)
        if task.cancelled() or running is None or running.task is not task:
            return
        error = task.exception()
        if isinstance(error, TermOver):
            _log.warning("feed was taken over", feed=loop.feed_id, term=loop.term)
            pause = 0.0
        else:
            _log.error("feed failed, beginning anew", feed=loop.feed_id, term=loop.term, exc_info=error)
            pause = _CRASH_PAUSE_S
        giving = asyncio.create_task(self._give_up_after(pause, loop), name=f"give up {loop.feed_id}")
        self._giving.add(giving)
        giving.add_done_callback(self._giving.discard)

    async def _give_up_after(self, pause: float, loop: L) -> None:
        await asyncio.sleep(pause)
        await self._give_up(loop.feed_id, loop.term)
