"""The pool: its errors are ours, its waits end, and a stopped transaction does not stop the others."""

import asyncio
import os
import signal
from collections.abc import Callable

import asyncpg
import pytest

from loadtests.ports import free_port
from shared.store.errors import NotMigrated, StoreBusy, StoreUnavailable
from shared.store.pool import Connection, Pool, open_pool
from shared.telemetry.metrics import DB_CONNECTIONS, DB_ERRORS, DB_POOL_WAIT_SECONDS, DB_POOL_WAITING, DB_RETRIES
from tests.servers import ServerProcess


async def test_a_server_that_is_not_there_is_said_to_be_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        await open_pool(f"postgresql://x@127.0.0.1:{free_port()}/x", name="test", connect_timeout_s=2)


async def test_a_database_without_our_tables_says_to_migrate(postgres_admin_url: str) -> None:
    with pytest.raises(NotMigrated, match="fleetwire migrate"):
        await open_pool(postgres_admin_url, name="test")


async def test_when_all_connections_are_in_use_waiting_ends(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", max_size=1, acquire_timeout_s=0.05)
    async with pool.acquire():
        with pytest.raises(StoreUnavailable):
            await pool.fetch("SELECT 1")
    assert await pool.fetch("SELECT 1")
    await pool.close()


async def test_a_server_that_hangs_does_not_hang_us(postgres_server: Callable[[], ServerProcess]) -> None:
    server = postgres_server()
    pool = await open_pool(server.url, name="test", command_timeout_s=0.3, acquire_timeout_s=0.5)
    backend = (await pool.fetch("SELECT pg_backend_pid()"))[0][0]
    server.pause()
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(10):
                await pool.fetch("SELECT 1")
    finally:
        os.kill(backend, signal.SIGCONT)
        server.resume()
    assert [tuple(row) for row in await pool.fetch("SELECT 1")] == [(1,)]
    await pool.close()


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_task_that_waits_for_a_server_that_hangs_can_be_cancelled(
    postgres_server: Callable[[], ServerProcess], in_transaction: bool
) -> None:
    server = postgres_server()
    pool = await open_pool(server.url, name="test")
    backend = (await pool.fetch("SELECT pg_backend_pid()"))[0][0]

    async def ask() -> str:
        try:
            if in_transaction:
                async with pool.transaction() as connection:
                    await connection.fetch("SELECT 1")
            else:
                await pool.fetch("SELECT 1")
        except StoreUnavailable:
            return "taken for an error of Postgres"
        return "answered"

    os.kill(backend, signal.SIGSTOP)
    try:
        asking = asyncio.create_task(ask())
        async with asyncio.timeout(20):
            while pool._pool.get_idle_size():  # until it is asked: the server that hangs has no answer
                await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking], timeout=20)
        assert asking.cancelled()
    finally:
        os.kill(backend, signal.SIGCONT)
    assert await pool.fetch("SELECT 1")
    await pool.close()


@pytest.mark.parametrize("rival", [asyncpg.DeadlockDetectedError, asyncpg.SerializationError])
async def test_a_deadlock_or_a_serialization_failure_is_tried_again(
    pool: Pool, rival: type[asyncpg.PostgresError]
) -> None:
    attempts = 0

    async def work(connection: Connection) -> int:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise rival("test")
        return attempts

    retries = DB_RETRIES._value.get()
    assert await pool.run(work) == 2
    assert DB_RETRIES._value.get() == retries + 1


async def test_the_database_ends_transactions_of_a_process_that_stopped_inside_one(pool: Pool) -> None:
    (row,) = await pool.fetch(
        "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout'),"
        " current_setting('statement_timeout')"
    )
    assert tuple(row) == ("5s", "2s", "10s")


async def test_deadlocks_without_end_are_said_to_be_a_busy_store(pool: Pool) -> None:
    async def work(connection: Connection) -> None:
        raise asyncpg.DeadlockDetectedError("test")

    busy = DB_ERRORS.labels("busy")
    before = busy._value.get()
    with pytest.raises(StoreBusy, match="each time"):
        await pool.run(work)
    assert busy._value.get() == before + 1


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InvalidCatalogNameError,
        asyncpg.InvalidPasswordError,
        asyncpg.InsufficientPrivilegeError,
        asyncpg.InternalServerError,
        asyncpg.InvalidCachedStatementError,
        asyncpg.TransactionTimeoutError,
        asyncpg.TooManyConnectionsError,
    ],
)
async def test_trouble_in_the_server_is_a_store_that_is_away_and_ends_no_loop(
    pool: Pool, error: type[asyncpg.PostgresError]
) -> None:
    with pytest.raises(StoreUnavailable):
        async with pool.acquire():
            raise error("test")


async def test_what_a_caller_has_to_judge_stays_itself(pool: Pool) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        await pool.fetch("INSERT INTO leases (name) VALUES ('a'), ('a')")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await pool.fetch("SELECT 1 / 0")


async def test_a_connection_is_given_back_without_asking_postgres_anything(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", max_size=2)
    backend = (await pool.fetch("SELECT pg_backend_pid()"))[0][0]
    other = await asyncpg.connect(database_url)
    last = await other.fetchval("SELECT query FROM pg_stat_activity WHERE pid = $1", backend)
    await other.close()
    await pool.close()
    assert last == "SELECT pg_backend_pid()"


async def test_a_transaction_left_open_ends_when_the_connection_is_given_back(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", max_size=1)
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with pool.acquire() as connection:
        await connection.execute("BEGIN")
        await connection.execute("CREATE TEMPORARY TABLE left_open ()")
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT to_regclass('left_open') IS NULL")
    await pool.close()
    assert len(told) == 1  # asyncpg says so, since it is somebody's mistake


async def until_no_statement_runs(database_url: str, mark: str) -> None:
    """Until Postgres says that nothing with this mark in its text runs."""
    other = await asyncpg.connect(database_url)
    asked = "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE $1 AND pid <> pg_backend_pid()"
    async with asyncio.timeout(8):  # the server's own bound on statements is 10 s
        while await other.fetchval(asked, f"%{mark}%"):
            await asyncio.sleep(0.01)
    await other.close()


async def until_a_statement_runs(database_url: str, mark: str) -> None:
    other = await asyncpg.connect(database_url)
    asked = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()"
    async with asyncio.timeout(8):
        while not await other.fetchval(asked, f"%{mark}%"):
            await asyncio.sleep(0.01)
    await other.close()


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_cancelling_stops_the_statement_at_the_server_and_keeps_the_connection(
    database_url: str, in_transaction: bool
) -> None:
    pool = await open_pool(database_url, name="test", max_size=1)
    backend = (await pool.fetch("SELECT pg_backend_pid()"))[0][0]
    mark = f"cancelled_{in_transaction}"

    async def work(connection: Connection) -> None:
        await connection.fetch(f"SELECT pg_sleep(60) AS {mark}")

    asking = asyncio.create_task(pool.run(work) if in_transaction else pool.fetch(f"SELECT pg_sleep(60) AS {mark}"))
    await until_a_statement_runs(database_url, mark)
    asking.cancel()
    await asyncio.wait([asking], timeout=3)
    assert asking.cancelled()
    await until_no_statement_runs(database_url, mark)
    assert (await pool.fetch("SELECT pg_backend_pid()"))[0][0] == backend
    await pool.close()


async def test_a_read_and_a_transaction_survive_that_their_connection_is_ended_by_the_server(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", max_size=2)
    killer = await asyncpg.connect(database_url)
    attempts = 0

    async def work(connection: Connection) -> int:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await killer.execute(
                "SELECT pg_terminate_backend($1)", await connection.fetchval("SELECT pg_backend_pid()")
            )
        await connection.execute("INSERT INTO leases (name) VALUES ('once')")
        return attempts

    assert await pool.run(work) == 2, "its COMMIT was not sent, so nothing of it stands"
    assert (await pool.fetch("SELECT count(*) FROM leases WHERE name = 'once'"))[0][0] == 1

    reading = asyncio.create_task(
        pool.fetch("SELECT 1 AS slow, pg_sleep(CASE WHEN now() > $1 THEN 0 ELSE 60 END)", await later(killer))
    )
    await until_a_statement_runs(database_url, "AS slow")
    await end_whoever_runs(killer, "AS slow")
    assert (await reading)[0][0] == 1
    await killer.close()
    await pool.close()


async def test_a_commit_that_was_never_sent_is_no_doubt(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", max_size=2)
    killer = await asyncpg.connect(database_url)
    attempts = 0

    async def work(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute("INSERT INTO leases (name) VALUES ('once')")
        if attempts == 1:
            await killer.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            async with asyncio.timeout(8):
                while not connection.is_closed():
                    await asyncio.sleep(0.005)

    await pool.run(work)
    assert attempts == 2
    assert (await pool.fetch("SELECT count(*) FROM leases WHERE name = 'once'"))[0][0] == 1
    await killer.close()
    await pool.close()


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_server_that_takes_no_writes_any_more_is_left_at_once(database_url: str, in_transaction: bool) -> None:
    pool = await open_pool(database_url, name="test", min_size=2, max_size=2)
    async with pool.acquire() as one, pool.acquire() as other:
        for connection in (one, other):
            await connection.execute("SET default_transaction_read_only = on")
    write = "INSERT INTO leases (name) VALUES ('written')"

    async def work(connection: Connection) -> None:
        await connection.execute(write)

    if in_transaction:
        await pool.run(work)
    else:
        await pool.fetch(write)
    assert (await pool.fetch("SELECT count(*) FROM leases"))[0][0] == 1
    settings = [await pool.fetch("SHOW default_transaction_read_only") for _ in range(2)]
    assert [rows[0][0] for rows in settings] == ["off", "off"], "no connection of before is used again"
    await pool.close()


async def test_a_deadline_of_the_caller_ends_the_statement_too(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", max_size=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await pool.fetch("SELECT pg_sleep(60) AS past_its_deadline")
    await until_no_statement_runs(database_url, "past_its_deadline")
    await pool.close()


async def end_whoever_runs(killer: asyncpg.Connection, mark: str) -> None:
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()"
    await killer.execute(ended, f"%{mark}%")


async def later(connection: asyncpg.Connection) -> object:
    return await connection.fetchval("SELECT clock_timestamp() + interval '30 milliseconds'")


async def test_a_write_whose_outcome_is_unknown_is_not_sent_again(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", max_size=2)
    killer = await asyncpg.connect(database_url)
    await killer.execute("INSERT INTO leases (name) VALUES ('held')")
    lock = killer.transaction()
    await lock.start()
    await killer.execute("SELECT FROM leases FOR UPDATE")
    writing = asyncio.create_task(pool.fetch("UPDATE leases SET name = 'mine' WHERE name = 'held'"))
    await until_a_statement_runs(database_url, "SET name = 'mine'")
    retries = DB_RETRIES._value.get()
    await end_whoever_runs(killer, "SET name = 'mine'")
    with pytest.raises(StoreUnavailable):
        await writing
    assert DB_RETRIES._value.get() == retries
    await lock.rollback()
    await killer.close()
    await pool.close()


async def test_a_pool_that_waits_for_a_connection_says_so(database_url: str) -> None:
    pool = await open_pool(database_url, name="test", max_size=1)
    waits = DB_POOL_WAIT_SECONDS.labels("primary")._sum
    before = waits.get()
    async with pool.acquire():
        waiting = asyncio.create_task(pool.fetch("SELECT 1"))
        async with asyncio.timeout(5):
            while DB_POOL_WAITING.labels("primary")._value.get() < 1:
                await asyncio.sleep(0)
        await asyncio.sleep(0.02)
    await waiting
    assert waits.get() - before >= 0.015
    assert DB_CONNECTIONS.labels("primary", "open")._value is not None
    await pool.close()
