"""The feeds of the local folder that this process holds: one loop each, notices routed to them by the device in the
path. Whoever claims a feed begins with a scan.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import structlog

from shared.hash_slots import partition_of
from shared.store import items
from shared.store.errors import StoreError
from shared.telemetry.metrics import (
    WATCHER_OVERFLOWS,
    WATCHER_REFUSED,
    WATCHER_WAITING,
)
from watcher.feed_loop import FeedLoop, FeedTools
from watcher.held_loops import HeldLoops
from watcher.pacing import Notice
from watcher.places import AREAS, Place, Refused, locate, shown
from watcher.tree import WatchedTree

_log = structlog.get_logger(__name__)

_REFUSALS_MAX: Final = 10_000


class Refusals:
    """What is not taken, counted and said once per path."""

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._said)

    def add(self, refused: Refused) -> None:
        """Count and log it, unless that was done before."""
        key = (refused.path, refused.reason)
        if key in self._said:
            return
        self._said[key] = None
        if len(self._said) > _REFUSALS_MAX:
            self._said.popitem(last=False)
        WATCHER_REFUSED.labels(refused.reason).inc()
        _log.warning("path refused", path=shown(refused.path), reason=refused.reason, detail=refused.detail)


class FeedSet:
    """Starts, feeds and stops the loops. `partitions` says which partition a feed is."""

    def __init__(
        self,
        partitions: Mapping[str, int],
        *,
        tools: FeedTools,
        tree: WatchedTree,
        refusals: Refusals,
        trusted: Callable[[str, int], bool],
        give_up: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """`give_up(feed, term)` is called when a loop ended by itself."""
        self._partitions = partitions
        self._feeds = {partition: feed_id for feed_id, partition in partitions.items()}
        self._tools = tools
        self._tree = tree
        self._refusals = refusals
        self._trusted = trusted
        self._held: HeldLoops[FeedLoop] = HeldLoops(give_up)

    def __repr__(self) -> str:
        return f"FeedSet({len(self._held)} of {len(self._partitions)} feeds)"

    @property
    def loops(self) -> list[FeedLoop]:
        """The loops that run."""
        return self._held.loops

    # Leases.

    def on_gained(self, feed_id: str, term: int) -> None:
        """Begin with a feed."""
        partition = self._partitions[feed_id]
        self._held.begin(
            FeedLoop(feed_id, partition, term, trusted=lambda: self._trusted(feed_id, term), tools=self._tools)
        )

    def on_renewed(self) -> None:
        """Feeds whose lease was in doubt may go on."""
        self._held.on_renewed()

    async def end(self, feed_ids: Collection[str], change: str, *, grace_s: float = 0.0) -> None:
        """Stop the loops: after their page when `grace_s` is given, which bounds the wait, else at once."""
        gone = {self._partitions[feed_id] for feed_id in feed_ids if self._held.get(feed_id) is not None}
        tasks = self._held.ending(feed_ids, change)
        # Before anything is awaited: the feed may be claimed again, and watched anew, while the old loop ends.
        self._tree.forget(*(path for path in self._tree.paths() if _partition_of_folder(path) in gone))
        await self._held.ended(tasks, grace_s=grace_s)

    async def close(self) -> None:
        """End all loops at once, whatever becomes of their leases."""
        await self.end(self._held.feed_ids, "ended")
        await self._held.close()

    # Notices, from the tree.

    def on_notice(self, path: str, what: Notice) -> None:
        """Something happened to a file."""
        place = locate(path)
        if isinstance(place, Refused):
            if what is not Notice.REMOVED:
                self._refusals.add(place)
        elif place is not None and place.name:
            loop = self._loop_of(place.device_id)
            if loop is not None:
                loop.on_notice(path, what)

    def on_folder(self, path: str) -> None:
        """A folder came or went."""
        place = locate(path)
        if path in AREAS:
            self._scan_all()
        elif isinstance(place, Refused):
            if path.count("/") >= 1:
                self._refusals.add(place)
        elif place is not None:
            if not place.name:
                self._tools.disk.forget_listing()
            loop = self._loop_of(place.device_id)
            if loop is not None:
                loop.on_folder(path)

    def on_lost(self, reason: str) -> None:
        """Notices were lost: all must be scanned."""
        WATCHER_OVERFLOWS.inc()
        _log.warning("file notices were lost, scanning everything", reason=reason)
        self._scan_all()

    def _scan_all(self) -> None:
        self._tools.disk.forget_listing()
        for loop in self._held.loops:
            loop.scan_now()

    def _loop_of(self, device_id: str) -> FeedLoop | None:
        feed_id = self._feeds.get(partition_of(device_id))
        return None if feed_id is None else self._held.get(feed_id)

    async def look_for_arrivals(self) -> None:
        """Wake the feeds that hold files of devices which did not exist and do now."""
        by_feed = {loop.feed_id: loop for loop in self._held.loops}
        if not by_feed:
            return
        try:
            for feed_id in await items.feeds_with_arrivals(self._tools.pool, list(by_feed)):
                by_feed[feed_id].on_arrivals()
            WATCHER_WAITING.set(await items.waiting_count(self._tools.pool, list(by_feed)))
        except StoreError as error:
            _log.debug("arrivals not looked for", error=str(error))


def _partition_of_folder(path: str) -> int | None:
    place = locate(path)
    return partition_of(place.device_id) if isinstance(place, Place) else None
