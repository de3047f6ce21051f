"""Connections go to whichever of the named servers takes writes, whatever the others do."""

import asyncio
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from loadtests.ports import free_port
from shared.store.errors import StoreError
from shared.store.hosts import Hosts, addresses
from shared.store.pool import open_pool
from tests.conftest import Pair
from tests.servers import ServerProcess


def naming(*servers: ServerProcess | int) -> str:
    """An address of several servers, or of ports where nobody listens, in this order."""
    parts = urlsplit(next(one.url for one in servers if isinstance(one, ServerProcess)))
    user = parts.netloc.rpartition("@")[0]
    ports = [one if isinstance(one, int) else one.server.port for one in servers]
    return urlunsplit(parts._replace(netloc=f"{user}@" + ",".join(f"127.0.0.1:{port}" for port in ports)))


def test_an_address_of_several_hosts_is_taken_apart() -> None:
    assert addresses("postgresql://u:p%40@a:1,[::1]:2,c/d?x=1") == [
        "postgresql://u:p%40@a:1/d?x=1",
        "postgresql://u:p%40@[::1]:2/d?x=1",
        "postgresql://u:p%40@c/d?x=1",
    ]
    assert addresses("postgresql://a,b?x=/1,2") == ["postgresql://a?x=/1,2", "postgresql://b?x=/1,2"]
    assert addresses("postgresql:///d?host=/run/postgresql") == ["postgresql:///d?host=/run/postgresql"]


async def port_of(connection: asyncpg.Connection) -> int:
    port = int(await connection.fetchval("SELECT inet_server_port()"))
    await connection.close()
    return port


async def test_a_dead_one_and_a_standby_are_passed_over(shared_postgres_pair: Pair) -> None:
    primary, copy = shared_postgres_pair
    hosts = Hosts(naming(free_port(), copy, primary), writable=True)
    for _ in range(2):
        assert await port_of(await hosts.connect("", timeout=9)) == primary.server.port
    assert "last good is number 3" in repr(hosts)
    reading = Hosts(naming(copy, primary), writable=False)
    assert await port_of(await reading.connect("", timeout=9)) == copy.server.port
    standby = Hosts(naming(primary, copy) + "?target_session_attrs=standby", writable=True)
    assert await port_of(await standby.connect("", timeout=9)) == copy.server.port
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
        await Hosts(copy.url, writable=True).connect("", timeout=9)


async def test_a_primary_that_hangs_is_left_for_the_one_that_was_promoted(postgres_pair: Pair) -> None:
    primary, copy = postgres_pair
    pool = await open_pool(
        naming(primary, copy),
        name="test",
        min_size=3,
        max_size=3,
        command_timeout_s=0.4,
        connect_timeout_s=1.5,
        acquire_timeout_s=3,
    )
    await pool.fetch("INSERT INTO leases (name) VALUES ('before')")
    on_copy = await asyncpg.connect(copy.url)
    async with asyncio.timeout(10):
        while not await on_copy.fetchval("SELECT count(*) FROM leases"):
            await asyncio.sleep(0.01)
    primary.pause()
    try:
        await on_copy.fetchval("SELECT pg_promote()")
        async with asyncio.timeout(30):
            while True:
                try:
                    await pool.fetch("INSERT INTO leases (name) VALUES ('after') ON CONFLICT DO NOTHING")
                except StoreError:
                    await asyncio.sleep(0.05)
                else:
                    break
        assert await on_copy.fetchval("SELECT count(*) FROM leases") == 2
        assert await on_copy.fetchval("SELECT epoch FROM log_identity") == 2
        # None of the connections that were open before is used again.
        ports = await asyncio.gather(*(pool.fetch("SELECT inet_server_port(), pg_sleep(0.05)") for _ in range(3)))
        assert {rows[0][0] for rows in ports} == {copy.server.port}
    finally:
        primary.resume()
        await on_copy.close()
        await pool.close(timeout_s=1)
