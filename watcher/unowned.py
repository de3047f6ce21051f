"""For how long feeds have had no owner, as one watcher sees it [pure].

Postgres says when a lease ended by silence, but not when one was given back; and what must be short is the time in
which nobody takes a feed, whatever the reason. So each watcher notes when it first saw a feed without an owner. That
all watchers are gone is seen by nobody here: their targets are missing then.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

__all__ = ["Unowned", "store_of"]

_NUMBERED: Final = re.compile(r"(.+):\d+")


def store_of(feed_id: str) -> str:
    """The store that a feed is of, as the metrics name it."""
    if feed_id.startswith("local:"):
        return "local"
    numbered = _NUMBERED.fullmatch(feed_id)
    return numbered[1] if numbered else feed_id


class Unowned:
    """What is known of all feeds. Times are the caller's, on one clock."""

    def __init__(self, feeds: Iterable[str]) -> None:
        self._stores = {feed: store_of(feed) for feed in feeds}
        self._since: dict[str, float] = {}

    def look(self, owned: Collection[str], now: float) -> dict[str, float]:
        """Seconds for the worst feed of each store, now that these feeds have an owner."""
        worst = dict.fromkeys(self._stores.values(), 0.0)
        for feed, store in self._stores.items():
            if feed in owned:
                self._since.pop(feed, None)
            else:
                worst[store] = max(worst[store], now - self._since.setdefault(feed, now))
        return worst
