"""The connection pool: every wait has a deadline, every new connection is compared with the log it should lead to.

What failed without having taken effect is tried again, at most twice and shortly (see `retrying`): a deadlock, a
serialization failure, a server that goes away or has become a standby. Cancelling tells Postgres to stop.

A connection that leads to another timeline or system, or to a copy of the log that has lost what this process
recorded, must not be used as if nothing had happened: the epoch is raised first, so that devices are told (see
`log_identity`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random, SystemRandom
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

import asyncpg

from shared.clock import monotonic
from shared.queue_watch import QueueWatch
from shared.store import point_of_no_return
from shared.store.errors import NotMigrated, StoreBusy, StoreUnavailable
from shared.store.hosts import Hosts
from shared.store.known_types import know_arrays
from shared.store.log_identity import LogWitness
from shared.store.retrying import LOST, PAUSES_S, UNSENT, Phase, is_read_only_server, may_repeat
from shared.store.statement_kind import is_read
from shared.store.warm_up import warm_up
from shared.telemetry.metrics import DB_CONNECTIONS, DB_ERRORS, DB_POOL_WAIT_SECONDS, DB_POOL_WAITING, DB_RETRIES

__all__ = ["Connection", "Pool", "Reader", "open_pool"]

T = TypeVar("T")

# asyncpg's own types do not tell a pooled connection from a plain one; both have the same methods.
Connection: TypeAlias = Any

# Not an answer to what was asked, but trouble on the way to one or in the server.
_UNAVAILABLE = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError)
_BUSY = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
# What a caller did, or has to judge: these stay themselves.
_JUDGED_BY_CALLERS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
# Of the family of wrong statements, those that say that somebody changed the server's side.
_CHANGED_ON_THE_SERVER = (asyncpg.InsufficientPrivilegeError,)
_RIVALS: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_GIVE_BACK_S: Final = 1.0
_MISSING = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError)


class Reader(Protocol):
    """What a list is read by: a pool, or copies as new as somebody needs them (`Replicas.after`)."""

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """The rows."""


class _Attempt:
    """How far one attempt came."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase = Phase.WAITING


_Enter: TypeAlias = Callable[[_Attempt], AbstractAsyncContextManager[Connection]]


class Pool:
    """An asyncpg pool whose errors are ours and whose waits end.

    `acquire()` and `transaction()` raise StoreUnavailable when Postgres is away, hangs or sheds us, and NotMigrated
    when our tables are not there.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        witness: LogWitness,
        *,
        acquire_timeout_s: float,
        role: str = "primary",
        several_hosts: bool = False,
        identify_s: float = 2.0,
        rand: Random | None = None,
    ) -> None:
        self._pool = pool
        self._acquire_timeout_s = acquire_timeout_s
        self._several_hosts = several_hosts
        self._identify_s = identify_s
        self._identify_at = 0.0
        self._rand = rand or SystemRandom()
        self._waited = DB_POOL_WAIT_SECONDS.labels(role)
        self._waiting = DB_POOL_WAITING.labels(role)
        self.witness = witness
        self.queue = QueueWatch()
        DB_CONNECTIONS.labels(role, "open").set_function(pool.get_size)
        DB_CONNECTIONS.labels(role, "idle").set_function(pool.get_idle_size)

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        """A connection, waited for at most `acquire_timeout_s`.

        Cancelling ends within about a second, whatever Postgres does: the statement that runs is cancelled at the
        server, and what cannot be given back by then is cut.
        """
        return self._acquire(_Attempt())

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A READ COMMITTED transaction on a connection of its own. Await nothing but Postgres inside it."""
        return self._transaction(_Attempt())

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, repeatable: bool = False) -> T:
        """`work` in a transaction; again when Postgres ended it without an effect, so it must be fit to run anew.

        `repeatable` says that a second commit of the same does no harm, as with rows claimed by a key: then a server
        that is lost while it commits is no reason to give up either.
        """
        return await self._persistently(self._transaction, work, repeatable=repeatable)

    async def fetch(self, statement: str, *arguments: Any, repeatable: bool = False) -> list[Any]:
        """One statement in a transaction of its own; a read is repeated like `run` with `repeatable`."""
        reads = is_read(statement)

        async def work(connection: Connection) -> list[Any]:
            if not reads:
                point_of_no_return.passed()
            rows: list[Any] = await connection.fetch(statement, *arguments)
            return rows

        return await self._persistently(self._acquire, work, repeatable=repeatable or reads)

    @asynccontextmanager
    async def _acquire(self, attempt: _Attempt) -> AsyncIterator[Connection]:
        with _translated():
            connection = await self._next_free()
            try:
                if self.witness.is_behind_pooler and monotonic() >= self._identify_at:
                    self._identify_at = monotonic() + self._identify_s
                    await self.witness.check(connection)
                attempt.phase = Phase.ENDING
                yield connection
            except BaseException as error:
                await self._suspect(error)
                raise
            finally:
                # When this fails, asyncpg has cut the connection. What was asked of it has its own result or error, and
                # a task that is cancelled must stay so: asyncpg's TimeoutError would be taken for Postgres being away.
                with contextlib.suppress(Exception):
                    await self._pool.release(connection, timeout=_GIVE_BACK_S)

    @asynccontextmanager
    async def _transaction(self, attempt: _Attempt) -> AsyncIterator[Connection]:
        async with self._acquire(attempt) as connection:
            attempt.phase = Phase.WORKING
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError):
                await _give_up(connection, transaction)
                raise
            except BaseException:
                await transaction.rollback()
                raise
            else:
                point_of_no_return.passed()
                attempt.phase = Phase.ENDING
                await transaction.commit()

    async def _next_free(self) -> Connection:
        began = monotonic()
        self._waiting.inc()
        ticket = self.queue.joined(began)
        try:
            return await self._pool.acquire(timeout=self._acquire_timeout_s)
        finally:
            now = monotonic()
            self.queue.left(ticket, now)
            self._waiting.dec()
            self._waited.observe(now - began)

    async def _suspect(self, error: BaseException) -> None:
        """Where one connection leads to a server that is no primary or does not answer, the others do too."""
        if is_read_only_server(_code_of(error)) or (self._several_hosts and isinstance(error, TimeoutError)):
            await self.reconnect()

    async def reconnect(self) -> None:
        """Every connection is made anew before its next use."""
        with contextlib.suppress(asyncpg.InterfaceError):
            await self._pool.expire_connections()

    async def _persistently(self, enter: _Enter, work: Callable[[Connection], Awaitable[T]], *, repeatable: bool) -> T:
        for pause_s in (*PAUSES_S, None):
            attempt = _Attempt()
            try:
                async with enter(attempt) as connection:
                    return await work(connection)
            except (StoreUnavailable, asyncpg.PostgresError) as error:
                cause = error.__cause__ or error
                if pause_s is None or not may_repeat(_code_of(cause), attempt.phase, repeatable=repeatable):
                    if isinstance(cause, _RIVALS):
                        DB_ERRORS.labels("busy").inc()
                        raise StoreBusy(f"rivals were in the way each time: {cause}") from cause
                    raise
            DB_RETRIES.inc()
            await asyncio.sleep(pause_s * self._rand.uniform(0.5, 1.5))
        raise AssertionError("the last try returns or raises")

    async def close(self, *, timeout_s: float = 5.0) -> None:
        """Wait for connections in use for at most `timeout_s`, then cut them."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    def __repr__(self) -> str:
        return f"Pool({self._pool.get_size()} of {self._pool.get_max_size()} open, {self._pool.get_idle_size()} idle)"


async def _give_up(connection: Connection, transaction: Any) -> None:
    """Roll back, which waits until the running statement was told to stop; a server that hangs is left to notice."""
    try:
        async with asyncio.timeout(_GIVE_BACK_S):
            await transaction.rollback()
    except BaseException as error:
        connection.terminate()
        if not isinstance(error, Exception):
            raise


def _code_of(error: BaseException | None) -> str | None:
    """The SQLSTATE; LOST when there was no server to give one."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate)
    # A wish that is not met is a standby instead of a primary: the next moment may bring another.
    if isinstance(error, ConnectionError | asyncpg.TargetServerAttributeNotMatched):
        return LOST
    return UNSENT if isinstance(error, asyncpg.InterfaceError) and "connection is closed" in str(error) else None


class _translated:  # noqa: N801 - reads as a word in a with statement
    """Foreign errors become ours where the call is made. Rivals stay themselves, for `Pool.run` to try again."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, _MISSING):
            DB_ERRORS.labels("not_migrated").inc()
            raise NotMigrated from error
        if isinstance(error, _BUSY):
            DB_ERRORS.labels("busy").inc()
            raise StoreBusy(f"{type(error).__name__}: {error}") from error
        if isinstance(error, _JUDGED_BY_CALLERS) and not isinstance(error, _CHANGED_ON_THE_SERVER):
            return
        if isinstance(error, _UNAVAILABLE):
            DB_ERRORS.labels("unavailable").inc()
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


async def _as_it_is(_connection: Connection) -> None:
    """What a connection is asked when it is given back: nothing.

    Nobody leaves anything in a session: settings are the role's or a transaction's, and no statement listens or takes a
    session's lock. Asking Postgres to clear it doubled what it is asked. asyncpg itself ends a transaction left open.
    """


async def open_pool(
    url: str,
    *,
    name: str,
    role: Literal["primary", "replica"] = "primary",
    min_size: int = 1,
    max_size: int = 10,
    statement_cache_size: int = 100,
    acquire_timeout_s: float = 5.0,
    command_timeout_s: float = 12.0,
    connect_timeout_s: float = 5.0,
    identify_s: float = 2.0,
    prepared: Sequence[str] = (),
) -> Pool:
    """Open a pool and prove that the database is ours and migrated.

    `url` may name several hosts (see `hosts`). `name` shows in pg_stat_activity. `statement_cache_size` 0 is for
    poolers that cannot keep prepared statements. `prepared` are statements that each connection knows before it is used
    (see `warm_up`). Behind a pooler the log is identified every `identify_s`. A pool in the role of a replica says
    nothing about the log and writes nothing.
    Raises StoreUnavailable, NotMigrated.
    """
    witness = LogWitness()
    hosts = Hosts(url, writable=role == "primary")

    async def init(connection: Connection) -> None:
        await know_arrays(connection, timeout_s=connect_timeout_s)
        if role == "primary":
            await witness.check(connection)
        if statement_cache_size:  # without a cache there is nothing to prepare for
            await warm_up(connection, prepared)

    pool = asyncpg.create_pool(
        url,
        min_size=min(min_size, max_size),
        max_size=max_size,
        timeout=connect_timeout_s,
        command_timeout=command_timeout_s,
        statement_cache_size=statement_cache_size,
        max_cached_statement_lifetime=0,
        max_inactive_connection_lifetime=300.0,
        server_settings={"application_name": f"fleetwire-{name}"},
        connect=hosts.connect,
        init=init,
        reset=_as_it_is,
    )
    try:
        with _translated():
            async with asyncio.timeout(connect_timeout_s + command_timeout_s):
                await pool
                async with pool.acquire() as connection:
                    setting = await connection.fetchval("SELECT current_setting('idle_in_transaction_session_timeout')")
        if setting == "0":
            raise NotMigrated("the database does not bound stopped transactions: run `fleetwire migrate`")
    except BaseException:
        pool.terminate()
        raise
    return Pool(
        pool,
        witness,
        acquire_timeout_s=acquire_timeout_s,
        role=role,
        several_hosts=len(hosts) > 1,
        identify_s=identify_s,
    )
