"""A store that keeps no log of changes: what one listing after the other tells, compared with the ledger.

Nothing is written for what stands as it was. What a listing saw is remembered as numbers, some tens of bytes for each
file of the feed, and forgotten with the process: the next one begins with a listing anyway.
"""

from hashlib import blake2b
from typing import Final

from shared import clock
from shared.cloud.provider import Changed
from shared.store import remote_items
from shared.store.pool import Pool
from watcher.places import Place, locate
from watcher.remote.effects import Record
from watcher.remote.record import RemoteRecorder

ROWS: Final = 2000
_SAY_EVERY_S: Final = 60.0


class Listing:
    """The listings of one feed under one term."""

    def __init__(self, pool: Pool, recorder: RemoteRecorder, feed_id: str, term: int, *, baselined: bool) -> None:
        self._pool = pool
        self._recorder = recorder
        self._feed_id = feed_id
        self._term = term
        self._seen: set[int] = set()
        self._said_at = clock.monotonic() if baselined else float("-inf")

    def begin(self) -> None:
        """A listing begins."""
        self._seen.clear()

    def saw(self, record: Record) -> None:
        """A page of it is committed, or stands."""
        self._seen.update(_number(one.item_id) for one in record.page.changes if isinstance(one, Changed))

    async def stands(self, record: Record) -> bool:
        """Whether all that a page tells is in the ledger as it is."""
        files = [one for one in record.page.changes if isinstance(one, Changed)]
        if len(files) != len(record.page.changes):
            return False
        known = await remote_items.versions(self._pool, self._feed_id, [one.item_id for one in files])
        for one in files:
            version, state = known.get(one.item_id, (None, None))
            watched = isinstance(place := locate(one.path or ""), Place) and bool(place.name)
            if (version != one.version or state == "waiting") if watched else version is not None:
                return False
        return True

    async def sweep(self, above: str) -> str | None:
        """Forget what was not seen among the next items above an id; how far that was, None at the end."""
        ids = await remote_items.known_ids(self._pool, self._feed_id, above, ROWS)
        gone = [item_id for item_id in ids if _number(item_id) not in self._seen]
        over = len(ids) < ROWS
        say = over and clock.monotonic() >= self._said_at + _SAY_EVERY_S
        if gone or say:
            await self._recorder.forget(self._feed_id, self._term, gone, over=say)
        if say:
            self._said_at = clock.monotonic()
        return None if over else ids[-1]


def _number(item_id: str) -> int:
    return int.from_bytes(blake2b(item_id.encode("utf-8", "surrogateescape"), digest_size=8).digest())
