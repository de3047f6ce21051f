"""The feeds of cloud providers that this process holds: one loop each, hints and wishes routed to them.

Whoever claims a feed goes on from the cursor that was committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from shared.hash_slots import PARTITIONS
from shared.store import feeds, remote_feeds, remote_items
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.telemetry.metrics import FEED_LAG_SECONDS, FEED_RUN_ITEMS
from watcher.held_loops import HeldLoops
from watcher.remote.loop import RemoteFeed, RemoteTools

_log = structlog.get_logger(__name__)


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
        self.rows = [(feed, one) for one in tools.values() for feed in feeds_of(one)]
        self._tools = {feed.feed_id: (feed, one) for feed, one in self.rows}
        self._held: HeldLoops[RemoteFeed] = HeldLoops(give_up)

    def __repr__(self) -> str:
        return f"RemoteFeedSet({len(self._held)} of {len(self._tools)} feeds)"

    def __contains__(self, feed_id: object) -> bool:
        return feed_id in self._tools

    @property
    def feed_ids(self) -> list[str]:
        """All that there are, held or not."""
        return list(self._tools)

    @property
    def held(self) -> Collection[str]:
        """Those whose loops run."""
        return self._held.feed_ids

    def status(self) -> dict[str, dict[str, object]]:
        """What they are doing, for the operations port."""
        return {feed.feed_id: feed.status() for feed in sorted(self._held.loops, key=lambda feed: feed.feed_id)}

    # Leases.

    def on_gained(self, feed_id: str, term: int) -> None:
        """Begin with a feed."""
        feed, tools = self._tools[feed_id]
        loop = RemoteFeed(feed_id, feed.partition, term, trusted=lambda: self._trusted(feed_id, term), tools=tools)
        self._held.begin(loop)

    def on_renewed(self) -> None:
        """Feeds whose lease was in doubt may go on."""
        self._held.on_renewed()

    def ending(self, feed_ids: Collection[str], change: str) -> "list[asyncio.Task[None]]":
        """Tell the loops to stop; from here on the feeds may be claimed again. The tasks are for `ended`."""
        return self._held.ending(feed_ids, change)

    async def ended(self, tasks: "Collection[asyncio.Task[None]]", *, grace_s: float) -> None:
        """Until they have ended, for `grace_s` by themselves."""
        await self._held.ended(tasks, grace_s=grace_s)

    async def close(self) -> None:
        """End all loops at once, whatever becomes of their leases."""
        await self._held.close()

    # What others tell.

    def on_hint(self, feed_id: str, doubted: bool) -> None:
        """A provider called about a feed; `doubted`: it said that it will not call much longer."""
        if (feed := self._held.get(feed_id)) is not None:
            feed.on_hint(doubted=doubted)

    async def look(self) -> None:
        """Tell the feeds of files that can be taken up by now, and of runs over everything that somebody wants."""
        self._measure()
        held = self._held.feed_ids
        if not held:
            return
        try:
            for feed_id in await remote_items.feeds_with_arrivals(self._pool, held):
                if (feed := self._held.get(feed_id)) is not None:
                    feed.on_arrivals()
            for feed_id in await remote_feeds.full_asked(self._pool, held):
                if (feed := self._held.get(feed_id)) is not None:
                    feed.on_full_asked()
        except StoreError as error:
            _log.debug("arrivals not looked for", error=str(error))

    def _measure(self) -> None:
        worst: dict[str, float] = dict.fromkeys({tools.provider.name for _, tools in self.rows}, 0.0)
        items = dict.fromkeys(worst, 0)
        for feed in self._held.loops:
            worst[feed.store] = max(worst[feed.store], feed.lag_s() or 0.0)
            items[feed.store] += feed.run_items
        for store, lag_s in worst.items():
            FEED_LAG_SECONDS.labels(store).set(lag_s)
            FEED_RUN_ITEMS.labels(store).set(items[store])
