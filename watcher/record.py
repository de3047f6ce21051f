"""One page of a feed as one transaction under its term: the ledger, and with it the jobs and events that the changes
call for.

Either all of it is committed or nothing, so a watcher that dies at any moment leaves nothing half announced, and the
next owner finds the same differences again. What was committed is then told to Redis, as a hint that may be lost.

Order in the transaction: the fence first; then feeds, items, jobs, responses; the append to the log last.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random, SystemRandom
from typing import Final
from uuid import UUID

import asyncpg

from shared import clock
from shared.bus.message import Message
from shared.protocol.ids import time_ordered_uuid
from shared.store import feeds, items, leases, log
from shared.store.pool import Connection, Pool
from shared.store.queries import statements
from watcher.announce import Announcement, Announcer, Appending
from watcher.pacing import FileStat
from watcher.places import Place, locate
from watcher.translate import Seen, Verdict, judge

FOLDER_VERSION: Final = "folder"
"""Stands as the content version of a job's folder."""


PAGE_STATEMENTS: Final = tuple(
    statements(subject)[name]
    for subject, names in (
        ("leases", ("fence",)),
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
    """What a committed page did."""

    verdicts: list[Verdict] = field(default_factory=list)
    jobs: list[UUID] = field(default_factory=list)
    events: list[Message] = field(default_factory=list)


AfterCommit = Callable[[Recorded], None]


class Recorder:
    """Writes pages. `after_commit` gets every committed page and must not wait; at most `at_once` transactions run."""

    def __init__(
        self,
        pool: Pool,
        *,
        store: str,
        queue: str,
        after_commit: AfterCommit,
        at_once: int = 4,
        rand: Random | None = None,
    ) -> None:
        self._pool = pool
        self._store = store
        self._after_commit = after_commit
        self._at_once = asyncio.Semaphore(at_once)
        self._rand = rand or SystemRandom()
        self._announcer = Announcer(store=store, queue=queue, new_id=self._new_id)

    async def page(self, feed_id: str, term: int, page: Page) -> Recorded:
        """Record it. Raises TermOver, StoreUnavailable, PageRefused, and then nothing of it was."""

        async def work(connection: Connection) -> tuple[Recorded, Appending]:
            await leases.fence(connection, feed_id, term)
            return await self._record(connection, feed_id, page)

        return await self._commit(work)

    async def arrivals(self, feed_id: str, term: int, limit: int) -> Recorded:
        """Take up files whose device has come into being, at most `limit`."""

        async def work(connection: Connection) -> tuple[Recorded, Appending]:
            await leases.fence(connection, feed_id, term)
            waiting = await items.arrivals(connection, feed_id, limit)
            page = Page(seen=[_seen_again(arrival) for arrival in waiting])
            return await self._record(connection, feed_id, page)

        return await self._commit(work)

    async def _commit(self, work: "Callable[[Connection], Awaitable[tuple[Recorded, Appending]]]") -> Recorded:
        async with self._at_once:
            try:
                recorded, appending = await self._pool.run(work)
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
                raise PageRefused(str(error)) from error
        log.remember(self._pool, appending.events, appending.results)
        self._after_commit(recorded)
        return recorded

    async def _record(self, connection: Connection, feed_id: str, page: Page) -> "tuple[Recorded, Appending]":
        recorded, appending = Recorded(), Appending()
        # Given once for all tries: when only the answer to a commit was lost, the page is recorded again, and a file
        # that was removed and put again would be announced again.
        page.seen = [one if one.identity else replace(one, identity=self._new_id()) for one in page.seen]
        if page.scanned:
            await feeds.scanned(connection, feed_id)
        if page.gone:
            await items.remove(connection, feed_id, page.gone)
        facts = await self._facts(connection, feed_id, page.seen)
        rows = [_folder_item(folder) for folder in dict.fromkeys(page.folders)]
        announced: list[Seen] = []
        for one, known in zip(page.seen, facts, strict=True):
            verdict = judge(one, known, in_baseline=one.noticed_at < page.baseline_until)
            recorded.verdicts.append(verdict)
            if (row := _row(one, known, verdict)) is not None:
                rows.append(row)
            if verdict is Verdict.ANNOUNCED:
                announced.append(one)
        if rows:
            await items.upsert(connection, feed_id, rows)
        if announced or page.gone:
            await feeds.changed(connection, feed_id)
        recorded.jobs, recorded.events = await self._announcer.announce(
            connection, [_announcement(one) for one in announced], appending
        )
        return recorded, appending

    async def _facts(self, connection: Connection, feed_id: str, seen: Sequence[Seen]) -> list[items.Facts]:
        if not seen:
            return []
        asked = [(one.place.path, one.place.device_id, one.place.top_folder) for one in seen]
        return await items.facts(connection, feed_id, self._store, asked)

    def _new_id(self) -> UUID:
        return time_ordered_uuid(clock.wall(), self._rand)


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
