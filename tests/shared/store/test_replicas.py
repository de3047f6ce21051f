"""Lists are read from a copy while it is as new as somebody needs them, and from the primary otherwise."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import asyncpg
import pytest

from shared.settings import load
from shared.store.pool import Pool, open_pool
from shared.store.read_token import PRIMARY_ONLY, ReadToken
from shared.store.replicas import Replicas
from shared.store.settings import ReplicaSettings
from shared.telemetry.metrics import DB_READS
from tests.servers import ServerProcess

Pair = tuple[ServerProcess, ServerProcess]
WHO = "SELECT inet_server_port() AS port"


@pytest.fixture
def pair(shared_postgres_pair: Pair) -> Pair:
    return shared_postgres_pair


@pytest.fixture
async def pool(pair: Pair) -> AsyncIterator[Pool]:
    opened = await open_pool(pair[0].url, name="test", max_size=4)
    await opened.fetch("DELETE FROM leases")
    yield opened
    await opened.close()


@pytest.fixture
async def replicas(pair: Pair, pool: Pool) -> AsyncIterator[Replicas]:
    async with replicas_of(pair, pool) as made:
        yield made


@asynccontextmanager
async def replicas_of(pair: Pair, pool: Pool) -> AsyncIterator[Replicas]:
    # More patient than usual, so that a machine that is busy with other tests does not make the copy look late.
    patience = {"FLEETWIRE_DB_REPLICA_PROBE_DEADLINE_S": "1", "FLEETWIRE_DB_REPLICA_LAG_S": "0.5"}
    urls = {"FLEETWIRE_DATABASE_URL": pair[0].url, "FLEETWIRE_DATABASE_REPLICA_URL": pair[1].url}
    settings = load(ReplicaSettings, urls | patience)
    made = Replicas(pool, settings, Random(1))
    running = asyncio.create_task(made.run())
    try:
        await until_usable(made, 1)
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.close()


async def until_usable(replicas: Replicas, count: int) -> None:
    async with asyncio.timeout(20):
        while replicas.usable != count:
            await asyncio.sleep(0.01)


async def port(replicas: Replicas, token: ReadToken | None = None) -> int:
    return int((await replicas.after(token).fetch(WHO))[0]["port"])


async def until_read_from_copy(replicas: Replicas, pair: Pair, token: ReadToken | None = None) -> None:
    async with asyncio.timeout(20):
        while await port(replicas, token) != pair[1].server.port:
            await asyncio.sleep(0.01)


async def write(pool: Pool, name: str) -> None:
    await pool.fetch("INSERT INTO leases (name) VALUES ($1)", name)


async def names(replicas: Replicas, token: ReadToken | None) -> set[str]:
    return {row["name"] for row in await replicas.after(token).fetch("SELECT name FROM leases")}


async def test_reads_go_to_the_copy_and_never_back_behind_a_write(pair: Pair, pool: Pool, replicas: Replicas) -> None:
    await until_read_from_copy(replicas, pair)
    by_copy = DB_READS.labels("replica", "new_enough")
    before = by_copy._value.get()
    for number in range(200):
        await write(pool, f"lease-{number}")
        token = await replicas.wrote()
        assert f"lease-{number}" in await names(replicas, token)
    assert by_copy._value.get() > before, "the copy was new enough at least now and then"


async def test_a_copy_that_stands_still_is_waited_for_shortly_and_then_left(
    pair: Pair, pool: Pool, replicas: Replicas
) -> None:
    copy = await asyncpg.connect(pair[1].url)
    await copy.execute("SELECT pg_wal_replay_pause()")
    await write(pool, "mine")
    token = await replicas.wrote()
    assert "mine" in await names(replicas, token), (
        "answered by the primary at once, before the copy is known to be late"
    )
    await until_usable(replicas, 0)
    assert await port(replicas) == pair[0].server.port
    await copy.execute("SELECT pg_wal_replay_resume()")
    await until_usable(replicas, 1)
    await until_read_from_copy(replicas, pair, token)
    await copy.close()


async def test_reads_of_a_copy_that_hangs_are_answered_by_the_primary_within_a_second(
    pair: Pair, replicas: Replicas
) -> None:
    await until_read_from_copy(replicas, pair)
    pair[1].pause()
    try:
        began = time.monotonic()
        ports = await asyncio.gather(*(port(replicas) for _ in range(10)))
        took = time.monotonic() - began
        assert set(ports) == {pair[0].server.port}
        assert took < 6, "a second is the probe's patience here, the rest is for a busy machine"
        assert replicas.usable == 0
    finally:
        pair[1].resume()
    await until_usable(replicas, 1)
    await until_read_from_copy(replicas, pair)


async def test_a_copy_that_is_gone_is_found_again_when_it_is_back(pair: Pair, replicas: Replicas) -> None:
    pair[1].kill()
    assert await port(replicas) == pair[0].server.port
    await until_usable(replicas, 0)
    pair[1].start()
    await until_usable(replicas, 1)
    await until_read_from_copy(replicas, pair)


async def test_what_only_the_primary_can_know_is_asked_of_it(pair: Pair, replicas: Replicas) -> None:
    assert await port(replicas, PRIMARY_ONLY) == pair[0].server.port
    later = await replicas.wrote()
    for unreached in (ReadToken(later.timeline, later.lsn + 2**32), ReadToken(later.timeline + 1, later.lsn)):
        assert await port(replicas, unreached) == pair[0].server.port
    assert await replicas.after(None).fetch("INSERT INTO leases (name) VALUES ('a') RETURNING name") == [("a",)]


async def test_a_mistake_is_told_by_the_primary_and_does_not_count_against_the_copy(replicas: Replicas) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await replicas.after(None).fetch("SELECT 1 / 0")
    assert replicas.usable == 1


async def test_a_copy_that_was_promoted_is_no_copy_and_a_primary_that_is_gone_gives_a_token_for_itself(
    postgres_pair: Pair,
) -> None:
    pool = await open_pool(postgres_pair[0].url, name="test", max_size=4)
    await write(pool, "before")
    async with replicas_of(postgres_pair, pool) as replicas:
        copy = await asyncpg.connect(postgres_pair[1].url)
        await copy.fetchval("SELECT pg_promote()")
        await until_usable(replicas, 0)
        await copy.execute("INSERT INTO leases (name) VALUES ('of another history')")
        assert await names(replicas, None) == {"before"}
        await copy.close()
        postgres_pair[0].kill()
        assert await replicas.wrote() == PRIMARY_ONLY
    await pool.close()


async def test_without_copies_everything_is_the_primarys(database_url: str) -> None:
    pool = await open_pool(database_url, name="test")
    alone = Replicas(pool, load(ReplicaSettings, {"FLEETWIRE_DATABASE_URL": database_url}), Random(1))
    assert alone.after(None) is pool
    assert not alone
    await pool.close()
