"""The steps of a feed that write, each one transaction under its term.

Whatever a provider tells is judged in one place: a page of its log, what lies below a folder that came in, files below
a folder that moved, files that waited. What it announces and what the ledger says of it are committed together with the
cursor, so a step that is done again finds its own work and announces nothing twice.

An event needs the sha256 of its file. Where nobody knows it yet, nothing is committed and `NeedsHashes` says what is to
be read; the same step is then tried with what was found.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from random import Random, SystemRandom
from typing import Final
from uuid import UUID

import asyncpg

from shared import clock
from shared.cloud.provider import Object
from shared.protocol.ids import time_ordered_uuid
from shared.store import feeds, leases, log, remote_feeds, remote_items
from shared.store.items import ItemState
from shared.store.pool import Connection, Pool
from shared.store.remote_items import Found, Known, RemoteItem
from watcher.announce import Announcement, Announcer, Appending
from watcher.places import Place, locate
from watcher.record import PageRefused
from watcher.remote.effects import List, Record, Settle
from watcher.remote.judge import RemoteSeen, judge
from watcher.remote.outcome import Content, Hashes, NeedsHashes, Settled, Told, Unreadable
from watcher.remote.placing import BATCH, Placing
from watcher.translate import Verdict

SWEEP_ROWS: Final = 4000

AfterCommit = Callable[[Told], None]


@dataclass(frozen=True, slots=True)
class _Step:
    """What is at hand inside a step's transaction. `generation` marks rows, in a run also those that did not change."""

    connection: Connection
    feed_id: str
    told: Told
    appending: Appending
    generation: int = 0
    run: bool = False


class RemoteRecorder:
    """Writes for the feeds of one store. `after_commit` must not wait; at most `at_once` transactions run.

    All raise TermOver, StoreUnavailable and PageRefused: nothing was committed, or nobody knows whether it was.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        store: str,
        queue: str,
        after_commit: AfterCommit,
        at_once: asyncio.Semaphore,
        rand: Random | None = None,
    ) -> None:
        self._pool = pool
        self._store = store
        self._after_commit = after_commit
        self._at_once = at_once
        self._rand = rand or SystemRandom()
        self._announcer = Announcer(store=store, queue=queue, new_id=self._new_id)

    async def page(self, feed_id: str, term: int, record: Record, hashes: Hashes) -> Told:
        """Commit a page with its cursor."""

        async def work(step: _Step) -> None:
            page = record.page
            if record.generation is not None:
                if record.begins is not None:
                    await remote_feeds.begin_full(step.connection, feed_id, record.generation, record.begins)
                await remote_feeds.paged(
                    step.connection,
                    feed_id,
                    page.cursor,
                    record.phase,
                    more=page.more,
                    changed=bool(page.changes),
                    told=len(page.changes) if record.full else None,
                )
            seen = await self._placing(step, baseline=record.baseline).page(record)
            await self._judge(step, seen, hashes)
            if not page.more and record.generation is not None:
                # All was told once more since they were said to leave.
                step.told.gone += await remote_items.left(step.connection, feed_id)

        run = record.full and record.generation is not None
        return await self._commit(feed_id, term, work, generation=record.generation or 0, run=run)

    async def listed(
        self, feed_id: str, term: int, effect: List, found: Sequence[tuple[Object, str | None]], hashes: Hashes
    ) -> None:
        """Commit what lies below a folder: objects with the ids of the folders they lie in."""
        seen = [
            RemoteSeen(
                one.object_id, place, parent, one.version, one.size, one.hashes.get("sha256"), baseline=effect.baseline
            )
            for one, parent in found
            if isinstance(place := locate(one.path), Place) and place.name
        ]

        async def work(step: _Step) -> None:
            await self._judge(step, seen, hashes)

        await self._commit(feed_id, term, work, generation=effect.generation)

    async def folder_listed(self, feed_id: str, term: int, folder_id: str) -> None:
        """All that lies below the folder is committed."""

        async def work(step: _Step) -> None:
            await remote_items.settled(step.connection, feed_id, folder_id)

        await self._commit(feed_id, term, work)

    async def settle(self, feed_id: str, term: int, effect: Settle, hashes: Hashes) -> Settled:
        """Do a bounded part of what folders left."""
        result = Settled(more=True)

        async def work(step: _Step) -> None:
            seen = await self._placing(step, baseline=effect.baseline).settle(result)
            await self._judge(step, seen, hashes)

        await self._commit(feed_id, term, work, generation=effect.generation)
        return result

    async def sweep(self, feed_id: str, term: int, generation: int, above: str) -> str | None:
        """Forget what the run did not see above an id; how far that was, None at the end of the run."""
        reach: str | None = None

        async def work(step: _Step) -> None:
            nonlocal reach
            reach, step.told.gone = await remote_items.sweep(step.connection, feed_id, above, generation, SWEEP_ROWS)
            if reach is None:
                await remote_items.sweep_folders(step.connection, feed_id, generation)
                await remote_feeds.swept(step.connection, feed_id)

        await self._commit(feed_id, term, work)
        return reach

    async def forget(self, feed_id: str, term: int, gone: Sequence[str], *, over: bool) -> None:
        """Forget what a listing did not see; `over`: all of it was compared."""

        async def work(step: _Step) -> None:
            if over:
                await feeds.scanned(step.connection, feed_id)
            if gone:
                step.told.gone = await remote_items.remove(step.connection, feed_id, gone)

        await self._commit(feed_id, term, work)

    async def arrive(self, feed_id: str, term: int, generation: int, hashes: Hashes) -> bool:
        """Take up files that waited; whether there may be more."""
        count = 0

        async def work(step: _Step) -> None:
            nonlocal count
            found = await remote_items.arrivals(step.connection, feed_id, BATCH)
            count = len(found)
            await self._judge(step, [one for one in map(_found_again, found) if one is not None], hashes)

        await self._commit(feed_id, term, work, generation=generation)
        return count >= BATCH

    # The transaction, and what all of them do.

    def _placing(self, step: _Step, *, baseline: bool) -> Placing:
        return Placing(step.connection, step.feed_id, self._store, step.told, baseline)

    async def _commit(
        self,
        feed_id: str,
        term: int,
        work: Callable[[_Step], Awaitable[None]],
        *,
        generation: int = 0,
        run: bool = False,
    ) -> Told:
        async def transaction(connection: Connection) -> _Step:
            step = _Step(connection, feed_id, Told(), Appending(), generation, run)
            await leases.fence(connection, feed_id, term)
            await work(step)
            return step

        async with self._at_once:
            try:
                step = await self._pool.run(transaction)
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
                raise PageRefused(str(error)) from error
        log.remember(self._pool, step.appending.events, step.appending.results)
        self._after_commit(step.told)
        return step.told

    async def _judge(self, step: _Step, seen: Sequence[RemoteSeen], hashes: Hashes) -> None:
        if not seen:
            return
        asked = [(one.item_id, one.place.device_id, one.place.top_folder) for one in seen]
        known = await remote_items.facts(step.connection, step.feed_id, self._store, asked)
        rows: list[RemoteItem] = []
        unchanged: list[str] = []
        announced: list[Announcement] = []
        needed: list[Content] = []
        for told_of, facts in zip(seen, known, strict=True):
            one, verdict, retry_s = _decide(told_of, facts, hashes, needed)
            step.told.verdicts.append(verdict)
            if verdict is Verdict.UNCHANGED:
                unchanged.append(one.item_id)
                continue
            rows.append(_row(one, facts, verdict, retry_s))
            if verdict is Verdict.ANNOUNCED:
                object_id = one.item_id if one.item_id != one.place.path else None
                announced.append(
                    Announcement(one.place, one.size, one.version, one.sha256, self._new_id(), object_id=object_id)
                )
        if needed:
            raise NeedsHashes(needed)
        if rows:
            await remote_items.put(step.connection, step.feed_id, rows, step.generation)
        if unchanged and step.run:
            await remote_items.mark(step.connection, step.feed_id, unchanged, step.generation)
        if announced:
            step.told.jobs, step.told.events = await self._announcer.announce(
                step.connection, announced, step.appending
            )

    def _new_id(self) -> UUID:
        return time_ordered_uuid(clock.wall(), self._rand)


def _decide(
    seen: RemoteSeen, facts: Known, hashes: Hashes, needed: list[Content]
) -> tuple[RemoteSeen, Verdict, float | None]:
    """The file, with its hash if it needs one; the verdict; for how long to let it be when it cannot be read."""
    if seen.sha256 is None and facts.version == seen.version:
        seen = replace(seen, sha256=facts.sha256)
    verdict = judge(seen, facts)
    if verdict is not Verdict.ANNOUNCED or seen.place.area == "request" or seen.sha256 is not None:
        return seen, verdict, None
    content = hashes.get((seen.item_id, seen.version))
    if content is None:
        needed.append(Content(seen.item_id, seen.place.path, seen.version, seen.size))
        return seen, verdict, None
    if isinstance(content, Unreadable):
        return seen, Verdict.WAITING, content.retry_s
    seen = replace(seen, version=content.version, size=content.size, sha256=content.sha256)
    return seen, judge(seen, facts), None


_STATES: Final[dict[Verdict, ItemState]] = {
    Verdict.RESERVED: "reserved",
    Verdict.BASELINE: "baseline",
    Verdict.WAITING: "waiting",
    Verdict.ANNOUNCED: "announced",
}


def _row(seen: RemoteSeen, known: Known, verdict: Verdict, retry_s: float | None) -> RemoteItem:
    state = known.state if verdict is Verdict.TOUCHED else _STATES[verdict]
    if state is None:
        raise AssertionError("only what is in the ledger can be touched")
    place = seen.place
    return RemoteItem(
        seen.item_id,
        place.path,
        place.device_id,
        place.area,
        state,
        seen.version,
        seen.size,
        seen.parent_id,
        seen.sha256,
        retry_s,
    )


def _found_again(found: Found) -> RemoteSeen | None:
    place = locate(found.path) if found.path else None
    if not isinstance(place, Place):
        return None
    return RemoteSeen(found.item_id, place, found.parent_id, found.version, found.size, found.sha256)
