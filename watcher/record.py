"""Pages of feeds, each under its feed's term: the ledger, and with it the jobs and events that the changes call for.

Either all of a page is committed or nothing, so a watcher that dies at any moment leaves nothing half announced, and
the next owner finds the same differences again. What was committed is then told to Redis, as a hint that may be lost.
Several feeds' pages may share a transaction; a feed whose term is over is left out of it and the others are not harmed.

Order in the transaction: the fences first; then feeds, items, jobs, responses; the append to the log last.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random, SystemRandom
from typing import Final
from uuid import UUID

import asyncpg

from shared import clock
from shared.bus.message import Message
from shared.job_kinds import JobKinds
from shared.protocol.ids import time_ordered_uuid
from shared.store import feeds, items, leases, log
from shared.store.errors import StoreBusy, StoreUnavailable, TermOver
from shared.store.pool import Connection, Pool
from shared.store.queries import statements
from shared.telemetry.traces import Tracer
from watcher.announce import Announcement, Announcer, Appending, QueuedJob
from watcher.joining import Ask, Joiner
from watcher.pacing import FileStat
from watcher.places import Place, locate
from watcher.translate import Seen, Verdict, judge

FOLDER_VERSION: Final = "folder"
"""Stands as the content version of a job's folder."""
_JOINED_MAX: Final = 500
"""How many paths of several feeds share a transaction."""

PAGE_STATEMENTS: Final = tuple(
    statements(subject)[name]
    for subject, names in (
        ("leases", ("fence_all",)),
        ("feeds", ("changed", "scanned")),
        ("items", ("facts", "upsert", "remove", "arrivals", "record_responses")),
        ("jobs", ("insert",)),
        ("log", ("append", "known_keys")),
    )
    for name in names
)
"""What a page may run, for every connection to know beforehand."""


class PageRefused(Exception):
    """Postgres will not take something in the page, however often it is tried."""


@dataclass(slots=True)
class Page:
    """What a feed has to record. `gone` are paths without a file, `folders` those of jobs.

    `baseline_until`: what was noticed before this moment may have been taken for older than it is.
    """

    seen: list[Seen] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    scanned: bool = False
    baseline_until: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.seen or self.gone or self.folders or self.scanned)

    @property
    def size(self) -> int:
        """How many paths are in it."""
        return len(self.seen) + len(self.gone) + len(self.folders)

    def add(self, later: "Page") -> None:
        """Take in what came after."""
        self.seen += later.seen
        self.gone += later.gone
        self.folders += later.folders
        self.scanned |= later.scanned

    def paths(self) -> list[str]:
        """All paths in it."""
        return [*(one.place.path for one in self.seen), *self.gone, *self.folders]

    def parts(self) -> "list[Page]":
        """Pages of one path each, in reverse."""
        parts = [Page(scanned=True)] if self.scanned else []
        parts += [Page(folders=[path], baseline_until=self.baseline_until) for path in self.folders]
        parts += [Page(seen=[one], baseline_until=self.baseline_until) for one in self.seen]
        return parts + [Page(gone=[path]) for path in self.gone]


@dataclass(slots=True)
class Recorded:
    """What a committed transaction did."""

    verdicts: list[Verdict] = field(default_factory=list)
    jobs: list[QueuedJob] = field(default_factory=list)
    events: list[Message] = field(default_factory=list)


AfterCommit = Callable[[Recorded], None]

# What is to be recorded: a page, or so many of the files whose device has come into being.
_Work = Page | int


class Recorder:
    """Writes pages, those that have to wait together with others (see `joining`).

    `after_commit` gets what each transaction did and must not wait; at most `at_once` transactions run.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        store: str,
        kinds: JobKinds,
        after_commit: AfterCommit,
        at_once: int = 2,
        rand: Random | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._pool = pool
        self._store = store
        self._after_commit = after_commit
        self._rand = rand or SystemRandom()
        self._announcer = Announcer(store=store, kinds=kinds, new_id=self._new_id, tracer=tracer)
        self._joiner: Joiner[_Work, list[Verdict]] = Joiner(
            self._write, at_once=at_once, size_max=_JOINED_MAX, concerns_all=_is_away
        )

    async def page(self, feed_id: str, term: int, page: Page) -> list[Verdict]:
        """Record it. Raises TermOver, StoreUnavailable, PageRefused, and then nothing of it was."""
        return await self._joiner.ask(feed_id, term, page, page.size)

    async def arrivals(self, feed_id: str, term: int, limit: int) -> list[Verdict]:
        """Take up files whose device has come into being, at most `limit`."""
        return await self._joiner.ask(feed_id, term, limit, limit)

    async def _write(self, asks: "Sequence[Ask[_Work, list[Verdict]]]") -> "list[list[Verdict] | Exception]":
        async def work(connection: Connection) -> tuple[dict[str, list[Verdict]], Recorded, Appending]:
            stands = await leases.fence_all(connection, {ask.feed_id: ask.term for ask in asks})
            pages = {
                ask.feed_id: await self._page_of(connection, ask.feed_id, ask.work)
                for ask in asks
                if ask.feed_id in stands
            }
            return await self._record(connection, pages)

        try:
            verdicts, recorded, appending = await self._pool.run(work)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise PageRefused(str(error)) from error
        log.remember(self._pool, appending.events, appending.results)
        self._announcer.committed(appending)
        if verdicts:
            self._after_commit(recorded)
        return [
            verdicts[ask.feed_id]
            if ask.feed_id in verdicts
            else TermOver(f"lease {ask.feed_id}: term {ask.term} is over")
            for ask in asks
        ]

    async def _page_of(self, connection: Connection, feed_id: str, work: _Work) -> Page:
        if isinstance(work, Page):
            # Given once for all tries: when only the answer to a commit was lost, the page is recorded again, and a
            # file that was removed and put again would be announced again.
            work.seen = [one if one.identity else replace(one, identity=self._new_id()) for one in work.seen]
            return work
        waiting = await items.arrivals(connection, feed_id, work)
        return Page(seen=[replace(_seen_again(arrival), identity=self._new_id()) for arrival in waiting])

    async def _record(
        self, connection: Connection, pages: Mapping[str, Page]
    ) -> "tuple[dict[str, list[Verdict]], Recorded, Appending]":
        verdicts: dict[str, list[Verdict]] = {feed_id: [] for feed_id in pages}
        recorded, appending = Recorded(), Appending()
        if scanned := [feed_id for feed_id, page in pages.items() if page.scanned]:
            await feeds.scanned(connection, scanned)
        gone = [(feed_id, path) for feed_id, page in pages.items() for path in page.gone]
        if gone:
            await items.remove(connection, gone)
        seen = [(feed_id, one) for feed_id, page in pages.items() for one in page.seen]
        folders = {(feed_id, folder): None for feed_id, page in pages.items() for folder in page.folders}
        rows = [(feed_id, _folder_item(folder)) for feed_id, folder in folders]
        announced: list[Seen] = []
        changed = dict.fromkeys(feed_id for feed_id, _ in gone)
        for (feed_id, one), known in zip(seen, await self._facts(connection, seen), strict=True):
            verdict = judge(one, known, in_baseline=one.noticed_at < pages[feed_id].baseline_until)
            verdicts[feed_id].append(verdict)
            recorded.verdicts.append(verdict)
            if (row := _row(one, known, verdict)) is not None:
                rows.append((feed_id, row))
            if verdict is Verdict.ANNOUNCED:
                announced.append(one)
                changed[feed_id] = None
        if rows:
            await items.upsert(connection, rows)
        if changed:
            await feeds.changed(connection, list(changed))
        recorded.jobs, recorded.events = await self._announcer.announce(
            connection, [_announcement(one) for one in announced], appending
        )
        return verdicts, recorded, appending

    async def _facts(self, connection: Connection, seen: Sequence[tuple[str, Seen]]) -> list[items.Facts]:
        if not seen:
            return []
        asked = [(feed_id, one.place.path, one.place.device_id, one.place.top_folder) for feed_id, one in seen]
        return await items.facts(connection, self._store, asked)

    def _new_id(self) -> UUID:
        return time_ordered_uuid(clock.wall(), self._rand)


def _is_away(error: Exception) -> bool:
    """Postgres is, which is no fault of a page. A lock that was not got in time may be the wait of one of them."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, StoreBusy)


def _announcement(seen: Seen) -> Announcement:
    if seen.identity is None:
        raise AssertionError("what is recorded was given its id before")
    return Announcement(seen.place, seen.stat.size, seen.sha256, seen.sha256, seen.identity, noticed_at=seen.noticed_at)


def _row(seen: Seen, known: items.Facts, verdict: Verdict) -> items.Item | None:
    if verdict is Verdict.UNCHANGED:
        return None
    state = known.state if verdict is Verdict.TOUCHED else _STATES[verdict]
    if state is None:
        raise AssertionError("only what is in the ledger can be touched")
    return items.Item(
        item_id=seen.place.path,
        device_id=seen.place.device_id,
        area=seen.place.area,
        state=state,
        content_version=seen.sha256,
        size=seen.stat.size,
        inode=seen.stat.inode,
        mtime_ns=None if seen.racy else seen.stat.mtime_ns,
    )


_STATES: Final[dict[Verdict, items.ItemState]] = {
    Verdict.RESERVED: "reserved",
    Verdict.BASELINE: "baseline",
    Verdict.WAITING: "waiting",
    Verdict.ANNOUNCED: "announced",
}


def _folder_item(folder: str) -> items.Item:
    place = _placed(folder)
    return items.Item(folder, place.device_id, place.area, "reserved", FOLDER_VERSION, 0, None, None)


def _seen_again(arrival: items.Arrival) -> Seen:
    stat = FileStat(arrival.inode or 0, arrival.size, arrival.mtime_ns or 0)
    return Seen(_placed(arrival.item_id), stat, arrival.content_version, racy=arrival.mtime_ns is None)


def _placed(path: str) -> Place:
    place = locate(path)
    if not isinstance(place, Place):
        raise AssertionError("the ledger holds only paths that have a place")
    return place
