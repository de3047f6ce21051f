"""The connection pool: every wait has a deadline, every new connection is compared with the log it should lead to.

A connection that leads to another timeline or system, or to a copy of the log that has lost what this process
recorded, must not be used as if nothing had happened: the epoch is raised first, so that devices are told (see
`log_identity`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg

from shared.store.errors import NotMigrated, StoreBusy, StoreUnavailable
from shared.store.log_identity import LogWitness
from shared.store.warm_up import warm_up
from shared.telemetry.metrics import DB_ERRORS, DB_RETRIES

__all__ = ["Connection", "Pool", "open_pool"]

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
)
# Of the family of wrong statements, those that say that somebody changed the server's side.
_CHANGED_ON_THE_SERVER = (asyncpg.InsufficientPrivilegeError,)
_GIVE_BACK_S: Final = 1.0
_MISSING = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError)


class Pool:
    """An asyncpg pool whose errors are ours and whose waits end.

    `acquire()` and `transaction()` raise StoreUnavailable when Postgres is away, hangs or sheds us, and NotMigrated
    when our tables are not there.
    """

    def __init__(self, pool: asyncpg.Pool, witness: LogWitness, *, acquire_timeout_s: float) -> None:
        self._pool = pool
        self._acquire_timeout_s = acquire_timeout_s
        self.witness = witness

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """A connection, waited for at most `acquire_timeout_s`.

        Cancelling ends within about a second, whatever Postgres does: what cannot be given back by then is cut.
        """
        with _translated():
            connection = await self._pool.acquire(timeout=self._acquire_timeout_s)
            try:
                yield connection
            finally:
                # When this fails, asyncpg has cut the connection. What was asked of it has its own result or error, and
                # a task that is cancelled must stay so: asyncpg's TimeoutError would be taken for Postgres being away.
                with contextlib.suppress(Exception):
                    await self._pool.release(connection, timeout=_GIVE_BACK_S)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction on a connection of its own. Await nothing but Postgres inside it."""
        async with self.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError):
                # Asking a server that hangs to roll back would be the next wait. One that loses us does it by itself.
                connection.terminate()
                raise
            except BaseException:
                await transaction.rollback()
                raise
            else:
                await transaction.commit()

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """`work` in a transaction, done again once when Postgres broke a deadlock by ending ours."""
        return await self._again_after_deadlock(self.transaction, work)

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """One statement in a transaction of its own, done again once after a deadlock."""

        async def work(connection: Connection) -> list[Any]:
            rows: list[Any] = await connection.fetch(statement, *arguments)
            return rows

        return await self._again_after_deadlock(self.acquire, work)

    async def _again_after_deadlock(
        self, enter: Callable[[], AbstractAsyncContextManager[Connection]], work: Callable[[Connection], Awaitable[T]]
    ) -> T:
        try:
            async with enter() as connection:
                return await work(connection)
        except asyncpg.DeadlockDetectedError:
            DB_RETRIES.inc()
        try:
            async with enter() as connection:
                return await work(connection)
        except asyncpg.DeadlockDetectedError as error:
            DB_ERRORS.labels("busy").inc()
            raise StoreBusy(f"deadlock, twice: {error}") from error

    async def close(self, *, timeout_s: float = 5.0) -> None:
        """Wait for connections in use for at most `timeout_s`, then cut them."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    def __repr__(self) -> str:
        return f"Pool({self._pool.get_size()} of {self._pool.get_max_size()} open, {self._pool.get_idle_size()} idle)"


class _translated:  # noqa: N801 - reads as a word in a with statement
    """Foreign errors become ours where the call is made. A deadlock stays itself, for `Pool.run` to try again."""

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
    min_size: int = 1,
    max_size: int = 10,
    statement_cache_size: int = 100,
    acquire_timeout_s: float = 5.0,
    command_timeout_s: float = 12.0,
    connect_timeout_s: float = 5.0,
    prepared: Sequence[str] = (),
) -> Pool:
    """Open a pool and prove that the database is ours and migrated.

    `name` shows in pg_stat_activity. `statement_cache_size` 0 is for poolers that cannot keep prepared statements.
    `prepared` are statements that each connection knows before it is used (see `warm_up`).
    Raises StoreUnavailable, NotMigrated.
    """
    witness = LogWitness()

    async def init(connection: Connection) -> None:
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
    return Pool(pool, witness, acquire_timeout_s=acquire_timeout_s)
