"""Reads from streaming copies of the primary, never older than the reader's own writes and never much older than now.

Lists and templates may be read so; the log, cursors, leases, idempotency and revocations never. A read that names a
token (`read_token`) waits at most `wait_s` until the copy has replayed it, asked on the connection that then reads; one
without goes to a copy that is at most `lag_max_s` late. What no copy can answer, and what a copy fails to, the primary
answers. A probe a few times a second looks how late each copy is; when one stops answering, the reads that wait for it
are sent to the primary at once.

One address is one server: two behind one address would answer for each other.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar

import asyncpg
import structlog

from shared.backoff import Backoff
from shared.clock import monotonic
from shared.store.errors import NotMigrated, StoreBusy, StoreError
from shared.store.lag_breaker import LagBreaker, State, Trail
from shared.store.pool import Pool, Reader
from shared.store.queries import statements
from shared.store.read_token import PRIMARY_ONLY, ReadToken, lsn_of
from shared.store.settings import ReplicaSettings
from shared.store.statement_kind import is_read
from shared.telemetry.metrics import DB_READS, DB_REPLICA_LAG_SECONDS, DB_REPLICAS_USABLE

__all__ = ["Replicas"]

T = TypeVar("T")

_SQL = statements("replicas")
_FIRST_PAUSE_S: Final = 0.001
_STAND_DEADLINE_S: Final = 1.0

_log = structlog.get_logger(__name__)


class Replicas:
    """The copies of one primary; with none, everything is read from the primary."""

    def __init__(self, primary: Pool, settings: ReplicaSettings, rand: Random) -> None:
        self._primary = primary
        self._settings = settings
        self._rand = rand
        self._stand = _Stand()
        self._replicas = [_Replica(url, settings, self._stand, rand) for url in settings.replica_urls]

    def __repr__(self) -> str:
        return f"Replicas({', '.join(map(repr, self._replicas)) or 'none'})"

    def __bool__(self) -> bool:
        return bool(self._replicas)

    @property
    def usable(self) -> int:
        """How many may be read from now."""
        return sum(replica.breaker.state is not State.OPEN for replica in self._replicas)

    def after(self, token: ReadToken | None) -> Reader:
        """A reader whose answers are at least as new as the token."""
        return _Reads(self, token) if self._replicas else self._primary

    async def wrote(self) -> ReadToken:
        """The token for whoever has just committed something."""
        try:
            async with asyncio.timeout(_STAND_DEADLINE_S):
                (row,) = await self._primary.fetch(_SQL["stand_of_primary"])
        except (StoreError, TimeoutError):
            return PRIMARY_ONLY  # what was written stands: saying so must not fail
        return ReadToken(row["timeline"], lsn_of(row["lsn"]))

    async def run(self) -> None:
        """Probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            for replica in self._replicas:
                group.create_task(replica.run(), name="replica")
            group.create_task(self._follow_primary(), name="primary's stand")

    async def close(self) -> None:
        """Give the connections back."""
        await asyncio.gather(*(replica.close() for replica in self._replicas))

    async def _follow_primary(self) -> None:
        asked = _Asked()
        while True:
            row = await asked.row(self._primary, "stand_of_primary", self._settings.replica_probe_deadline_s)
            if row is None:
                self._stand.lost()
            else:
                self._stand.at(row["system_id"], row["timeline"], lsn_of(row["flushed"]), monotonic())
            await asyncio.sleep(self._settings.replica_probe_s * self._rand.uniform(0.8, 1.2))

    async def read(self, token: ReadToken | None, statement: str, arguments: Sequence[Any]) -> list[Any]:
        """From a copy if one can answer, else from the primary."""
        # What is not surely a read is the primary's, whoever asks.
        may_go = token != PRIMARY_ONLY and is_read(statement)
        why = "none_usable" if may_go else "primary_asked"
        if may_go:
            ready = [replica for replica in self._replicas if replica.breaker.state is not State.OPEN]
            self._rand.shuffle(ready)
            for replica in ready:
                if replica.breaker.admit():
                    answer = await replica.read(token, statement, arguments)
                    if isinstance(answer, list):
                        DB_READS.labels("replica", "new_enough").inc()
                        return answer
                    why = answer
                    break
        DB_READS.labels("primary", why).inc()
        return await self._primary.fetch(statement, *arguments)


@dataclass(frozen=True, slots=True)
class _Reads:
    _replicas: Replicas
    _token: ReadToken | None

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        return await self._replicas.read(self._token, statement, arguments)


class _Asked:
    """Questions with a deadline that ends on time. What hangs is cancelled and not waited for: that takes a second."""

    def __init__(self) -> None:
        self._left: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work, name="asked of a copy")
        self._left.add(task)
        task.add_done_callback(self._forget)
        return task

    async def row(self, pool: Pool, statement: str, deadline_s: float) -> Any:
        """Its one row; None when there is no answer."""
        task = self.begin(pool.fetch(_SQL[statement]))
        try:
            await asyncio.wait({task}, timeout=deadline_s)
            return task.result()[0] if task.done() else None
        except (StoreError, asyncpg.PostgresError):
            return None
        finally:
            task.cancel()

    def close(self) -> None:
        for task in self._left:
            task.cancel()

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, lest asyncio report what nobody waits for


class _Stand:
    """Where the primary stands, as far as this process has seen."""

    def __init__(self) -> None:
        self.system_id: str | None = None
        self.timeline = 0
        self.trail = Trail()

    def at(self, system_id: str, timeline: int, lsn: int, now: float) -> None:
        if (system_id, timeline) != (self.system_id, self.timeline):
            self.trail.clear()
            self.system_id, self.timeline = system_id, timeline
        self.trail.add(lsn, now)

    def lost(self) -> None:
        """It does not answer, so nobody knows how late a copy is."""
        self.trail.clear()

    def lag_s(self, row: Any, now: float) -> float | None:
        """How late a copy is that says this of itself; None: it is none of this primary's, or that is not known."""
        if not row["replica"] or row["lsn"] is None or row["system_id"] != self.system_id:
            return None
        if (row["timeline"] or 0) < self.timeline:
            return None  # it has not followed its primary to where it is now
        return self.trail.lag_s(lsn_of(row["lsn"]), now)


class _Replica:
    """One copy: its pool, its breaker, and its probe."""

    def __init__(self, url: str, settings: ReplicaSettings, stand: _Stand, rand: Random) -> None:
        self._url = url
        self._settings = settings
        self._stand = stand
        self._rand = rand
        self._pool: Pool | None = None
        self._opened: asyncio.Future[None] | None = None
        self._asked = _Asked()
        self.breaker = LagBreaker(lag_max_s=settings.replica_lag_max_s, cool_s=settings.replica_cool_s, now=monotonic())

    def __repr__(self) -> str:
        return f"replica {self.breaker.state.value}"

    async def run(self) -> None:
        """Until cancelled. A copy that is not there is looked for again and again."""
        backoff = Backoff(self._rand, base=0.2, cap=3.0)
        while self._pool is None:
            try:
                self._pool = await self._settings.open_replica_pool(self._url, "api-replica")
            except (NotMigrated, StoreError) as error:
                _log.warning("replica cannot be used", detail=str(error))
                await asyncio.sleep(backoff.next())
        while True:
            row = await self._asked.row(self._pool, "stand_of_replica", self._settings.replica_probe_deadline_s)
            lag_s = None if row is None else self._stand.lag_s(row, monotonic())
            before = self.breaker.state
            self.breaker.on_probe(lag_s, monotonic())
            self._tell(before)
            if lag_s is not None:
                DB_REPLICA_LAG_SECONDS.set(lag_s)
            await asyncio.sleep(self._settings.replica_probe_s * self._rand.uniform(0.8, 1.2))

    async def close(self) -> None:
        self._asked.close()
        if self._pool is not None:
            await self._pool.close(timeout_s=1.0)

    async def read(self, token: ReadToken | None, statement: str, arguments: Sequence[Any]) -> "list[Any] | str":
        """The rows, or why there are none."""
        reading = self._asked.begin(self._read(token, statement, arguments))
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
        either: set[asyncio.Future[Any]] = {reading, self._opened}
        went_well: bool | None = None
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return "failed"
            rows = reading.result()
            went_well = True
        except StoreBusy:
            return "failed"
        except (StoreError, TimeoutError):
            went_well = False
            return "failed"
        except asyncpg.PostgresError:
            return "failed"  # a conflict with what is replayed, or a mistake that the primary will tell as well
        else:
            return "too_late" if rows is None else rows
        finally:
            reading.cancel()
            before = self.breaker.state
            self.breaker.on_read(went_well, monotonic())
            self._tell(before)

    async def _read(self, token: ReadToken | None, statement: str, arguments: Sequence[Any]) -> list[Any] | None:
        if self._pool is None:
            return None
        async with self._pool.acquire() as connection:
            if token is not None and not await self._reaches(connection, token):
                return None
            rows: list[Any] = await connection.fetch(statement, *arguments)
            return rows

    async def _reaches(self, connection: Any, token: ReadToken) -> bool:
        """Whether it has, or soon has, replayed the token. What it has replayed it will not forget."""
        end, pause_s = monotonic() + self._settings.replica_wait_s, _FIRST_PAUSE_S
        while True:
            row = await connection.fetchrow(_SQL["stand_of_replica"])
            if not row["replica"] or row["lsn"] is None:
                return False
            if token.is_reached_by(row["timeline"] or 0, lsn_of(row["lsn"])):
                return True
            if monotonic() + pause_s > end:
                return False
            await asyncio.sleep(pause_s)
            pause_s *= 2

    def _tell(self, before: State) -> None:
        """What changed, to the log and to the reads that wait for a copy that is not read from any more."""
        after = self.breaker.state
        if after is before:
            return
        if after is State.OPEN:
            _log.warning("replica is not read from", was=before.value)
            if self._opened is not None and not self._opened.done():
                self._opened.set_result(None)
            self._opened = None
        elif after is State.CLOSED:
            _log.info("replica is read from")
        DB_REPLICAS_USABLE.inc((after is not State.OPEN) - (before is not State.OPEN))
