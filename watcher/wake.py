"""How a feed learns that its provider called: the bus at once, else one look at Postgres about every second.

What is said of a feed is only that it may have changed. The bus may lose it, say it twice or say it of a feed of
somebody else; the look finds every hint that was recorded and not yet said. So a call that reached the API is never
waited for longer than one look, and a lost call no longer than the feed's next poll.
"""

import asyncio
from collections.abc import Callable, Collection
from random import Random

import structlog

from shared.bus.message import FEED, feed_id_of
from shared.bus.names import feed_channel
from shared.bus.reader import SlotReader
from shared.store import feed_hints
from shared.store.errors import StoreError
from shared.store.pool import Pool
from watcher.tasks import beside

__all__ = ["FeedWake"]

_log = structlog.get_logger(__name__)

OnHint = Callable[[str, bool], None]
"""Gets the feed, and whether its subscription is in doubt. Must not wait."""


class FeedWake:
    """`run()` listens and looks until cancelled. `held()` says which feeds are ours; the others are not looked at."""

    def __init__(
        self,
        pool: Pool,
        redis_url: str,
        *,
        held: Callable[[], Collection[str]],
        on_hint: OnHint,
        look_s: float = 1.0,
        rand: Random,
    ) -> None:
        self._pool = pool
        self._held = held
        self._on_hint = on_hint
        self._look_s = look_s
        self._rand = rand
        # The last hint that was said, and the last doubt, by feed; only of feeds that are held.
        self._said: dict[str, tuple[int, int]] = {}
        self._reader = SlotReader(
            redis_url, on_message=self._on_message, on_gap=lambda slots: None, name="watcher-wake", rand=rand
        )
        self._reader.acquire_channel(feed_channel(), self._on_message)

    def __repr__(self) -> str:
        return f"FeedWake({len(self._said)} feeds told of, {self._reader!r})"

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with beside({"feed wakes": self._reader.run(), "feed hints": self._look_forever()}):
                pass
        finally:
            await self._reader.close()

    async def look(self) -> None:
        """Say every hint that is newer than what was seen. A feed that was just gained is told its last one again."""
        held = set(self._held())
        found = await feed_hints.hinted(self._pool, held) if held else []
        for one in found:
            hinted, doubted = self._said.get(one.feed_id, (0, 0))
            if (one.hinted_us, one.doubted_us) != (hinted, doubted):
                self._on_hint(one.feed_id, one.doubted_us != doubted)
        # Forgotten with the feed: who gets it next is told its last hint, for its first look may have been too early.
        self._said = {one.feed_id: (one.hinted_us, one.doubted_us) for one in found}

    def _on_message(self, kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
        feed_id = feed_id_of(body) if kind == FEED else None
        if feed_id is not None and feed_id in self._held():
            self._said[feed_id] = (seq, self._said.get(feed_id, (0, 0))[1])
            self._on_hint(feed_id, False)

    async def _look_forever(self) -> None:
        troubled = False
        while True:
            try:
                await self.look()
                troubled = False
            except StoreError as error:
                if not troubled:
                    _log.warning("hints cannot be read, feeds poll", error=str(error))
                troubled = True
            await asyncio.sleep(self._look_s * self._rand.uniform(0.8, 1.2))
