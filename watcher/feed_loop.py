"""One feed under one term: notices and scans in, committed pages out.

Two tasks. One scans, and only finds; the other looks at what is due and records it, and is the only one that writes,
so the feed's pages follow one another. Nothing is begun while the lease is not trusted, and a page that Postgres
refuses because the term is over ends the feed here. What cannot be recorded now, because Postgres is away, stays due.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import structlog

from shared import clock
from shared.backoff import Backoff
from shared.cloud.errors import CloudError
from shared.cloud.threads import FileThreads
from shared.store import feeds
from shared.store.errors import StoreError, TermOver
from shared.store.pool import Pool
from shared.telemetry.metrics import WATCHER_FILES, WATCHER_RESCAN_SECONDS, WATCHER_SEEN_SECONDS
from watcher.disk import Disk
from watcher.look import Gone, Large, Looker, Outcome, Unsettled
from watcher.pacing import FileStat, Look, Notice, Pacing
from watcher.places import Place, Refused, locate
from watcher.record import Page, PageRefused, Recorder
from watcher.scan import Scanner
from watcher.tasks import beside, end, woken
from watcher.translate import Seen, Verdict

_log = structlog.get_logger(__name__)

LOOKS_AT_ONCE: Final = 100
PAGE_MAX: Final = 500
_FOLDERS_MAX: Final = 1000
_BASELINE_MARGIN_S: Final = 1.0
_STRANGERS_MAX: Final = 1000
_IDLE_S: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedTimes:
    """Seconds. `rescan_s` where all folders are watched, `poll_s` where not."""

    settle_s: float = 0.05
    quiet_s: float = 0.5
    rescan_s: float = 60.0
    poll_s: float = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedTools:
    """What the feeds of a process share."""

    pool: Pool
    recorder: Recorder
    disk: Disk
    looker: Looker
    threads: FileThreads
    store: str
    times: FeedTimes
    take_baseline: bool
    on_refused: Callable[[Refused], None]
    rand: Random


class FeedLoop:
    """The feed `feed_id` under `term`, as long as `trusted()`. What does not wait is for the event loop's thread."""

    def __init__(
        self, feed_id: str, partition: int, term: int, *, trusted: Callable[[], bool], tools: FeedTools
    ) -> None:
        self.feed_id = feed_id
        self.partition = partition
        self.term = term
        self.scans = 0
        self._trusted = trusted
        self._tools = tools
        self._times = tools.times
        self._pacing = Pacing(settle_s=tools.times.settle_s, quiet_s=tools.times.quiet_s)
        self._wake = asyncio.Event()
        self._scan_wake = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = False
        self._scan_due = clock.monotonic()
        self._scanned_at = clock.monotonic()
        self._scan_over = False
        self._folders: dict[str, None] = {}
        self._page = Page()
        self._large: dict[str, asyncio.Task[None]] = {}
        self._arrivals = False
        self._strangers: set[str] = set()
        self._began = asyncio.Event()
        self._baselined = False
        self._baseline_until = 0.0

    def __repr__(self) -> str:
        return f"FeedLoop({self.feed_id}, term {self.term}, {self._pacing!r}, {self.scans} scans)"

    # What the watched tree and the watcher tell.

    def on_notice(self, path: str, what: Notice) -> None:
        """Something happened to a file of this feed."""
        if not self._pacing.notice(path, what, clock.monotonic()):
            self.scan_now()
        self._wake.set()

    def on_folder(self, path: str) -> None:
        """A folder of this feed came or went."""
        if len(self._folders) >= _FOLDERS_MAX:
            self.scan_now()
            return
        self._folders[path] = None
        self._scan_wake.set()

    def on_arrivals(self) -> None:
        """A device that files of this feed wait for came into being."""
        self._arrivals = True
        self._wake.set()

    def scan_now(self) -> None:
        """Notices may have been lost."""
        self._pacing.forget_writing()
        self._scan_due = clock.monotonic()
        self._scan_wake.set()

    def wake(self) -> None:
        """The lease was renewed."""
        self._wake.set()
        self._scan_wake.set()

    def stop(self) -> None:
        """Finish the page and begin no other."""
        self._stopping = True
        self.wake()

    # What a scan tells.

    async def room(self) -> None:
        """Until there is room for what a page of the scan may find."""
        while len(self._pacing) > 2 * PAGE_MAX:
            self._room.clear()
            await self._room.wait()

    def on_difference(self, path: str, stat: FileStat) -> None:
        """The scan saw a file that the ledger has otherwise, or not."""
        self._found(path, stat, baseline=self._tools.take_baseline and not self._baselined)

    def on_missing(self, path: str) -> None:
        """The scan did not see what the ledger has."""
        self._found(path, None, baseline=False)

    def _found(self, path: str, stat: FileStat | None, *, baseline: bool) -> None:
        if not self._pacing.found(path, stat, clock.monotonic(), baseline=baseline):
            self._scan_due = clock.monotonic() + self._times.poll_s
        self._wake.set()

    def on_job_folder(self, path: str) -> None:
        """The scan saw a folder of a job for the first time."""
        self._page.folders.append(path)
        self._wake.set()

    def on_refused(self, refused: Refused) -> None:
        """The scan saw what is not taken."""
        self._tools.on_refused(refused)

    # The two tasks.

    async def run(self) -> None:
        """Until stopped. Raises TermOver, and what a bug raises."""
        loops = {f"record {self.feed_id}": self._record_forever(), f"scan {self.feed_id}": self._scan_forever()}
        try:
            async with beside(loops):
                pass
        finally:
            await end(self._large.values())

    async def _record_forever(self) -> None:
        backoff = Backoff(self._tools.rand, base=0.1, cap=2.0)
        ready = False
        while not self._stopping:
            if not self._trusted():
                await woken(self._wake, 1.0)
                continue
            try:
                if not ready:
                    await self._begin()
                    ready = True
                await self._record_what_is_due()
                backoff.reset()
            except TermOver:
                raise
            except StoreError as error:
                if backoff.attempt == 0:
                    _log.warning("page not recorded, trying again", feed=self.feed_id, error=str(error))
                await asyncio.sleep(backoff.next())

    async def _begin(self) -> None:
        state = await feeds.state(self._tools.pool, self.feed_id)
        self._baselined = state is not None and state.baselined
        if self._tools.take_baseline and not self._baselined:
            self._baseline_until = float("inf")
        self._began.set()

    async def _record_what_is_due(self) -> None:
        if self._page.size < PAGE_MAX:
            looks = self._pacing.take(clock.monotonic(), LOOKS_AT_ONCE)
            if looks:
                outcomes = await self._tools.looker.look(looks)
                for look, outcome in zip(looks, outcomes, strict=True):
                    self._take(look, outcome)
        # The first scan is over when all that it came upon is recorded, or left to its writer.
        if self._scan_over and not (self._pacing.baseline_left and not self._baselined):
            self._scan_over, self._page.scanned = False, True
        if self._page:
            await self._record()
        elif self._arrivals:
            self._arrivals = False
            await self._record_arrivals()
        else:
            due = self._pacing.next_due()
            await woken(self._wake, _IDLE_S if due is None else due - clock.monotonic())

    def _take(self, look: Look, outcome: Outcome) -> None:
        now = clock.monotonic()
        if isinstance(outcome, Seen):
            self._page.seen.append(outcome)
        elif isinstance(outcome, Gone):
            self._page.gone.append(outcome.path)
        elif isinstance(outcome, Refused):
            self._tools.on_refused(outcome)
            if outcome.reason == "unreadable":
                # It may be the file that the ledger has, and be readable again tomorrow.
                self._pacing.finished(outcome.path, now)
            else:
                self._page.gone.append(outcome.path)
        elif isinstance(outcome, Unsettled):
            self._pacing.unsettled(outcome.path, now, outcome.stat)
        elif isinstance(outcome, Large):
            task = asyncio.create_task(self._read(look, outcome.stat), name=f"read {outcome.path!a}")
            self._large[outcome.path] = task
        elif not self._pacing.failed(outcome.path, now):
            _log.warning("file cannot be looked at, left to the next scan", path=ascii(look.path), error=outcome.detail)
        # Some outcomes end here, without a page: a scan that waits for room must hear of them, too.
        self._room.set()

    async def _read(self, look: Look, stat: FileStat) -> None:
        try:
            self._take(look, await self._tools.looker.read(self.feed_id, look, stat))
        finally:
            del self._large[look.path]
            self._wake.set()

    async def _record(self) -> None:
        page, self._page = self._page, Page()
        page.baseline_until = self._baseline_until
        try:
            verdicts = await self._tools.recorder.page(self.feed_id, self.term, page)
        except PageRefused:
            await self._record_one_by_one(page)
        except StoreError:
            page.add(self._page)
            self._page = page
            raise
        else:
            self._recorded(page, verdicts)

    async def _record_one_by_one(self, page: Page) -> None:
        # One path that Postgres will not take must not keep the others from being recorded.
        parts = page.parts()
        while parts:
            try:
                self._recorded(parts[-1], await self._tools.recorder.page(self.feed_id, self.term, parts[-1]))
            except PageRefused as error:
                for path in parts[-1].paths():
                    self._tools.on_refused(Refused(path, "store", str(error)))
                self._finished(parts[-1])
            except StoreError:
                for part in parts:
                    self._page.add(part)
                raise
            parts.pop()

    async def _record_arrivals(self) -> None:
        try:
            verdicts = await self._tools.recorder.arrivals(self.feed_id, self.term, PAGE_MAX)
        except StoreError:
            self._arrivals = True
            raise
        for verdict in verdicts:
            WATCHER_FILES.labels(verdict.value).inc()
        self._arrivals = self._arrivals or len(verdicts) >= PAGE_MAX

    def _recorded(self, page: Page, verdicts: Sequence[Verdict]) -> None:
        now = clock.monotonic()
        for seen, verdict in zip(page.seen, verdicts, strict=True):
            WATCHER_FILES.labels(verdict.value).inc()
            if seen.live and verdict is Verdict.ANNOUNCED:
                WATCHER_SEEN_SECONDS.observe(now - seen.noticed_at)
            if verdict is Verdict.WAITING:
                self._say_stranger(seen.place.device_id)
        if page.gone:
            WATCHER_FILES.labels("gone").inc(len(page.gone))
        if page.scanned:
            self.scans += 1
            WATCHER_RESCAN_SECONDS.observe(now - self._scanned_at)
            if not self._baselined:
                self._baselined = True
                self._baseline_until = now + _BASELINE_MARGIN_S if self._tools.take_baseline else 0.0
        self._finished(page)

    def _say_stranger(self, device_id: str) -> None:
        """Once for each device and term: its other files wait for the same thing."""
        if device_id in self._strangers or len(self._strangers) >= _STRANGERS_MAX:
            return
        self._strangers.add(device_id)
        mend = f"fleetwire token --device {device_id}"
        _log.warning("files wait for a device that nobody registered", device_id=device_id, mend=mend)

    def _finished(self, page: Page) -> None:
        now = clock.monotonic()
        for path in page.paths():
            if path in self._pacing:
                self._pacing.finished(path, now)
        self._room.set()

    async def _scan_forever(self) -> None:
        await self._began.wait()
        tools = self._tools
        scanner = Scanner(
            root=lambda: tools.disk.root,
            watch=tools.disk.watch,
            threads=tools.threads,
            pool=tools.pool,
            feed_id=self.feed_id,
            store=tools.store,
            finds=self,
        )
        backoff = Backoff(tools.rand, base=0.2, cap=5.0)
        while True:
            try:
                if not self._trusted():
                    await woken(self._scan_wake, 1.0)
                elif clock.monotonic() >= self._scan_due:
                    await self._scan_all(scanner)
                elif self._folders:
                    path = next(iter(self._folders))
                    del self._folders[path]
                    await self._scan_folder(scanner, path)
                else:
                    await woken(self._scan_wake, self._next_scan() - clock.monotonic())
                backoff.reset()
            except (StoreError, CloudError, OSError) as error:
                if backoff.attempt == 0:
                    _log.warning("scan not finished, trying again", feed=self.feed_id, error=ascii(str(error)))
                self._scan_due = clock.monotonic()
                await asyncio.sleep(backoff.next())

    def _next_scan(self) -> float:
        # Folders may have ceased to be watched since the scan was planned.
        if not self._tools.disk.watched:
            self._scan_due = min(self._scan_due, self._scanned_at + self._times.poll_s)
        return self._scan_due

    async def _scan_all(self, scanner: Scanner) -> None:
        self._scanned_at = clock.monotonic()
        times = self._times
        every = times.rescan_s if self._tools.disk.watched else times.poll_s
        self._scan_due = self._scanned_at + every * self._tools.rand.uniform(0.9, 1.1)
        listing = await self._tools.disk.device_folders()
        await scanner.scan(listing.by_partition.get(self.partition, ()))
        self._scan_over = True
        self._wake.set()

    async def _scan_folder(self, scanner: Scanner, path: str) -> None:
        place = locate(path)
        if not isinstance(place, Place):
            return
        in_device_folder = path.count("/") == 2
        if place.area == "response" and in_device_folder and await scanner.is_job_folder(path):
            return
        await scanner.scan_folder(path)
