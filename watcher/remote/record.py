"""The steps of a feed that write, each one transaction under its term; what was committed is then told to Redis."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from random import Random, SystemRandom
from typing import Final, TypeVar
from uuid import UUID

import asyncpg

from shared import clock
from shared.cloud.provider import Object
from shared.job_kinds import JobKinds
from shared.protocol.ids import time_ordered_uuid
from shared.store import leases, log
from shared.store.pool import Connection, Pool
from shared.telemetry.traces import Tracer
from watcher.announce import Announcer
from watcher.places import Refused
from watcher.record import PageRefused
from watcher.remote.effects import List, Record, Settle
from watcher.remote.ledger import SqlLedger
from watcher.remote.outcome import AnyHashes, Hashes, Settled, Told
from watcher.remote.poison import poisoned
from watcher.remote.steps import Steps

T = TypeVar("T")

AfterCommit = Callable[[Told], None]

_REFUSALS: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""What Postgres will say of the same rows however often it is asked."""


class _TakenBack(Exception):
    """The step was only tried."""


class RemoteRecorder:
    """Writes for the feeds of one store. `after_commit` must not wait; at most `at_once` transactions run.

    All raise TermOver, StoreUnavailable and PageRefused: nothing was committed, or nobody knows whether it was. Those
    that get `hashes` raise NeedsHashes for what is not among them. An item that Postgres will not take is passed by,
    and told with what was refused; PageRefused is only raised where no single item is at fault.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        store: str,
        kinds: JobKinds,
        after_commit: AfterCommit,
        at_once: asyncio.Semaphore,
        rand: Random | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._pool = pool
        self._store = store
        self._after_commit = after_commit
        self._at_once = at_once
        self._rand = rand or SystemRandom()
        self._announcer = Announcer(store=store, kinds=kinds, new_id=self._new_id, tracer=tracer)

    async def page(self, feed_id: str, term: int, record: Record, hashes: Hashes) -> Told:
        """Commit a page with its cursor."""

        async def work(steps: Steps) -> Told:
            await steps.page(record)
            return steps.told

        return await self._commit(feed_id, term, hashes, work)

    async def listed(
        self, feed_id: str, term: int, effect: List, found: Sequence[tuple[Object, str | None]], hashes: Hashes
    ) -> None:
        """Commit what lies below a folder: objects with the ids of the folders they lie in."""
        await self._commit(feed_id, term, hashes, lambda steps: steps.listed(effect, found))

    async def folder_listed(self, feed_id: str, term: int, folder_id: str) -> None:
        """All that lies below the folder is committed."""
        await self._commit(feed_id, term, {}, lambda steps: steps.ledger.settled(folder_id))

    async def settle(self, feed_id: str, term: int, effect: Settle, hashes: Hashes) -> Settled:
        """Do a bounded part of what folders left."""
        return await self._commit(feed_id, term, hashes, lambda steps: steps.settle(effect))

    async def sweep(self, feed_id: str, term: int, generation: int, above: str) -> str | None:
        """Forget what the run did not see above an id; how far that was, None at the end of the run."""
        return await self._commit(feed_id, term, {}, lambda steps: steps.sweep(generation, above))

    async def arrive(self, feed_id: str, term: int, hashes: Hashes) -> bool:
        """Take up files that waited; whether there may be more."""
        return await self._commit(feed_id, term, hashes, lambda steps: steps.arrive())

    async def _commit(self, feed_id: str, term: int, hashes: Hashes, work: Callable[[Steps], Awaitable[T]]) -> T:
        about: dict[str, None] = {}

        async def run(skip: Collection[str], hashes: Hashes, *, tried: bool = False) -> tuple[T, Told, SqlLedger]:
            async def transaction(connection: Connection) -> tuple[T, Told, SqlLedger]:
                ledger = SqlLedger(connection, feed_id, self._store, self._announcer)
                steps = Steps(ledger, hashes, skip=skip)
                await leases.fence(connection, feed_id, term)
                try:
                    answer = await work(steps)
                finally:
                    about.update(steps.items)
                if tried:
                    raise _TakenBack
                return answer, steps.told, ledger

            async with self._at_once:
                try:
                    return await self._pool.run(transaction)
                except _REFUSALS as error:
                    raise PageRefused(str(error)) from error

        async def tries(items: Collection[str]) -> str | None:
            try:
                await run(about.keys() - set(items), AnyHashes(hashes), tried=True)
            except _TakenBack:
                return None
            except PageRefused as error:
                return str(error)
            raise AssertionError("what is only tried is taken back")

        try:
            answer, told, ledger = await run((), hashes)
        except PageRefused:
            bad = await poisoned(list(about), tries)
            if not bad:
                raise
            answer, told, ledger = await run(bad, hashes)
            told.refused += [Refused(item_id, "store", reason) for item_id, reason in bad.items()]
        log.remember(self._pool, ledger.appending.events, ledger.appending.results)
        self._announcer.committed(ledger.appending)
        self._after_commit(told)
        return answer

    def _new_id(self) -> UUID:
        return time_ordered_uuid(clock.wall(), self._rand)
