"""The feeds of cloud providers that this process holds: one loop each, hints and wishes routed to them.

A loop that ends by itself has been fenced or has met a bug; both mean that its lease is given up, and whoever claims
the feed next goes on from the cursor that was committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, NamedTuple

import structlog

from shared.hash_slots import PARTITIONS
from shared.store import feeds, remote_feeds, remote_items
from shared.store.errors import StoreError, TermOver
from shared.store.pool import Pool
from shared.telemetry.metrics import FEED_LAG_SECONDS, FEED_RUN_ITEMS, WATCHER_LEASE_CHANGES
from watcher.remote.loop import RemoteFeed, RemoteTools
from watcher.tasks import end

_log = structlog.get_logger(__name__)

_CRASH_PAUSE_S: Final = 2.0


class _Running(NamedTuple):
    feed: RemoteFeed
    task: "asyncio.Task[None]"


def feeds_of(tools: RemoteTools) -> list[feeds.Feed]:
    """The feeds of a store: one where its log covers all of it, one for each partition where it only lists."""
    store = tools.provider.name
    kind = store.partition(":")[0]
    if tools.provider.capabilities.changes == "delta":
        return [feeds.Feed(store, kind, store, None)]
    return [feeds.Feed(f"{store}:{number}", kind, store, number) for number in range(PARTITIONS)]


class RemoteFeedSet:
    """Starts, tells and stops the loops. Tools by the name of the store."""

    def __init__(
        self,
        tools: Mapping[str, RemoteTools],
        *,
        pool: Pool,
        trusted: Callable[[str, int], bool],
        give_up: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """`give_up(feed, term)` is called when a loop ended by itself."""
        self._pool = pool
        self._trusted = trusted
        self._give_up = give_up
        self.rows = [(feed, one) for one in tools.values() for feed in feeds_of(one)]
        self._tools = {feed.feed_id: (feed, one) for feed, one in self.rows}
        self._running: dict[str, _Running] = {}
        self._giving: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"RemoteFeedSet({len(self._running)} of {len(self._tools)} feeds)"

    def __contains__(self, feed_id: object) -> bool:
        return feed_id in self._tools

    @property
    def feed_ids(self) -> list[str]:
        """All that there are, held or not."""
        return list(self._tools)

    @property
    def held(self) -> Collection[str]:
        """Those whose loops run."""
        return self._running.keys()

    def status(self) -> dict[str, dict[str, object]]:
        """What they are doing, for the operations port."""
        return {feed_id: running.feed.status() for feed_id, running in sorted(self._running.items())}

    # Leases.

    def on_gained(self, feed_id: str, term: int) -> None:
        """Begin with a feed."""
        feed, tools = self._tools[feed_id]
        loop = RemoteFeed(feed_id, feed.partition, term, trusted=lambda: self._trusted(feed_id, term), tools=tools)
        task = asyncio.create_task(loop.run(), name=f"feed {feed_id}")
        task.add_done_callback(lambda ended: self._on_ended(loop, ended))
        self._running[feed_id] = _Running(loop, task)
        WATCHER_LEASE_CHANGES.labels("gained").inc()

    def on_renewed(self) -> None:
        """Feeds whose lease was in doubt may go on."""
        for running in self._running.values():
            running.feed.wake()

    async def end(self, feed_ids: Collection[str], change: str, *, grace_s: float = 0.0) -> None:
        """Stop the loops: after their step when `grace_s` is given, which bounds the wait, else at once."""
        await self.ended(self.ending(feed_ids, change), grace_s=grace_s)

    def ending(self, feed_ids: Collection[str], change: str) -> "list[asyncio.Task[None]]":
        """Tell the loops to stop; from here on the feeds may be claimed again. The tasks are for `ended`."""
        ending = [running for feed_id in feed_ids if (running := self._running.pop(feed_id, None)) is not None]
        for running in ending:
            running.feed.stop()
            WATCHER_LEASE_CHANGES.labels(change).inc()
        return [running.task for running in ending]

    async def ended(self, tasks: "list[asyncio.Task[None]]", *, grace_s: float) -> None:
        """Until they have ended, for `grace_s` by themselves."""
        if tasks and grace_s:
            await asyncio.wait(tasks, timeout=grace_s)
        await end(tasks)

    async def close(self) -> None:
        """End all loops at once, whatever becomes of their leases."""
        await self.end(list(self._running), "ended")
        await end(self._giving)

    def _on_ended(self, loop: RemoteFeed, task: "asyncio.Task[None]") -> None:
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

    async def _give_up_after(self, pause: float, loop: RemoteFeed) -> None:
        await asyncio.sleep(pause)
        await self._give_up(loop.feed_id, loop.term)

    # What others tell.

    def on_hint(self, feed_id: str, doubted: bool) -> None:
        """A provider called about a feed; `doubted`: it said that it will not call much longer."""
        if (running := self._running.get(feed_id)) is not None:
            running.feed.on_hint(doubted=doubted)

    async def look(self) -> None:
        """Tell the feeds of files that can be taken up by now, and of runs over everything that somebody wants."""
        self._measure()
        held = list(self._running)
        if not held:
            return
        try:
            for feed_id in await remote_items.feeds_with_arrivals(self._pool, held):
                if (running := self._running.get(feed_id)) is not None:
                    running.feed.on_arrivals()
            for feed_id in await remote_feeds.full_asked(self._pool, held):
                if (running := self._running.get(feed_id)) is not None:
                    running.feed.on_full_asked()
        except StoreError as error:
            _log.debug("arrivals not looked for", error=str(error))

    def _measure(self) -> None:
        worst: dict[str, float] = dict.fromkeys({tools.provider.name for _, tools in self.rows}, 0.0)
        items = dict.fromkeys(worst, 0)
        for running in self._running.values():
            store = running.feed.store
            worst[store] = max(worst[store], running.feed.lag_s() or 0.0)
            items[store] += running.feed.run_items
        for store, lag_s in worst.items():
            FEED_LAG_SECONDS.labels(store).set(lag_s)
            FEED_RUN_ITEMS.labels(store).set(items[store])
