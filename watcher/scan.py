"""Comparing a range of a feed with the ledger: what is new or different, and what is gone.

A scan only finds; it records nothing. What it finds goes the way of every notice: it is looked at again, and recorded
under the term. So a file that comes or goes while the scan runs cannot be taken for what it no longer is.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from shared.cloud.beneath import Root
from shared.cloud.threads import FileThreads
from shared.store import items
from shared.store.items import LedgerRow
from shared.store.pool import Pool
from watcher.pacing import FileStat
from watcher.places import Refused
from watcher.walk import Ask, Walk, WalkPage, Watch, walk

ROWS: Final = 1000
TO_THE_END: Final = "\U0010ffff"


class Finds(Protocol):
    """Who takes what a scan finds. `room` waits until there is room for a page of it."""

    async def room(self) -> None: ...

    def on_difference(self, path: str, stat: FileStat) -> None: ...

    def on_missing(self, path: str) -> None: ...

    def on_job_folder(self, path: str) -> None: ...

    def on_refused(self, refused: Refused) -> None: ...


class Scanner:
    """Scans for one feed. Raises StoreUnavailable, CloudError, OSError: the scan is then to be done again."""

    def __init__(
        self,
        *,
        root: Callable[[], Root],
        watch: Watch,
        threads: FileThreads,
        pool: Pool,
        feed_id: str,
        store: str,
        finds: Finds,
    ) -> None:
        self._root = root
        self._watch = watch
        self._threads = threads
        self._pool = pool
        self._feed_id = feed_id
        self._store = store
        self._finds = finds

    async def scan(self, folders: Iterable[str], *, above: str = "", upto: str = TO_THE_END) -> None:
        """Compare the files in `folders` with all that the ledger has in the range of paths."""
        steps = walk(self._root(), folders, self._watch)
        answer: frozenset[str] | None = None
        try:
            while (step := await self._threads.run(self._feed_id, _next, steps, answer)) is not None:
                answer = None
                if isinstance(step, Ask):
                    answer = await items.reserved_folders(self._pool, self._feed_id, self._store, step.folders)
                    continue
                await self._compare(step, above, step.upto or upto)
                above = step.upto or upto
        finally:
            _close(steps)

    async def scan_folder(self, path: str) -> None:
        """Compare one folder and all below it; when it is gone, all that the ledger has below it is."""
        await self.scan([path], above=f"{path}/", upto=f"{path}/{TO_THE_END}")

    async def is_job_folder(self, path: str) -> bool:
        """Whether a folder holds the response of a job."""
        return bool(await items.reserved_folders(self._pool, self._feed_id, self._store, [path]))

    async def _compare(self, page: WalkPage, above: str, upto: str) -> None:
        for refused in page.refused:
            self._finds.on_refused(refused)
        here: dict[str, FileStat | None] = {**dict(page.files), **dict.fromkeys(page.folders)}
        unseen = sorted(here)
        while True:
            await self._finds.room()
            rows = await items.ledger(self._pool, self._feed_id, above=above, upto=upto, limit=ROWS)
            # With more rows to come, judge only as far as these reach.
            reach = rows[-1].item_id if len(rows) == ROWS else upto
            known = {row.item_id: row for row in rows}
            while unseen and unseen[0] <= reach:
                path = unseen.pop(0)
                self._judge(path, here[path], known.pop(path, None))
            for path in known:
                self._finds.on_missing(path)
            if len(rows) < ROWS:
                return
            above = reach

    def _judge(self, path: str, stat: FileStat | None, row: LedgerRow | None) -> None:
        if stat is None:
            if row is None or row.state != "reserved":
                self._finds.on_job_folder(path)
        elif row is None or (row.inode, row.size, row.mtime_ns) != stat:
            self._finds.on_difference(path, stat)


def _next(steps: Walk, answer: frozenset[str] | None) -> WalkPage | Ask | None:
    try:
        return steps.send(answer)
    except StopIteration:
        return None


def _close(steps: Walk) -> None:
    try:
        steps.close()
    except ValueError:
        # A thread that nobody waits for any more is still in it; it is closed when it is forgotten.
        pass
