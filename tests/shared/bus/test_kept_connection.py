"""A connection is made again until somebody says that it is over, and whoever keeps it hears of trouble each time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from shared.bus import resp
from shared.bus.client import Endpoint
from shared.bus.kept_connection import KeptConnection
from shared.telemetry.metrics import BUS_RECONNECTS
from tests.shared.bus.conftest import until


class Keeper:
    """Keeps a connection and a diary."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.made: list[resp.Connection] = []
        self.connections: list[resp.Connection] = []
        self.ticks = 0
        self.trouble = 0
        self.tries = 0
        self.waits = asyncio.Event()
        self.waits.set()
        self.refuse: Exception | None = None
        self.kept = KeptConnection(
            endpoint,
            role="test",
            rand=Random(3),
            tick_s=0.01,
            connect=self.connect,
            on_connected=self.connections.append,
            on_tick=self.on_tick,
            on_trouble=self.on_trouble,
        )

    async def connect(self) -> resp.Connection:
        self.tries += 1
        await self.waits.wait()
        if self.refuse is not None:
            raise self.refuse
        connection = await resp.connect(
            self.endpoint, deadline_s=5, name="test", on_reply=lambda reply: None, on_lost=self.kept.lost
        )
        self.made.append(connection)
        return connection

    def on_tick(self) -> None:
        self.ticks += 1

    def on_trouble(self, endpoint: Endpoint) -> None:
        assert endpoint == self.endpoint
        self.trouble += 1


@asynccontextmanager
async def keeping(url: str) -> AsyncIterator[Keeper]:
    endpoint = Endpoint.from_url(url)
    keeper = Keeper(endpoint)
    task = asyncio.create_task(keeper.kept.run())
    try:
        yield keeper
    finally:
        keeper.kept.close()
        for connection in keeper.connections:
            connection.abort()
        async with asyncio.timeout(5):
            await task


async def test_a_lost_connection_is_made_again_and_that_is_trouble(redis_url: str) -> None:
    before = BUS_RECONNECTS.labels("test")._value.get()
    async with keeping(redis_url) as keeper:
        await until(lambda: keeper.ticks > 2, "the connection stands")
        assert (len(keeper.connections), keeper.trouble) == (1, 0)
        keeper.connections[0].abort()
        await until(lambda: len(keeper.connections) == 2, "another connection")
        assert keeper.trouble == 1
    assert BUS_RECONNECTS.labels("test")._value.get() == before + 1


@pytest.mark.parametrize("error", [ConnectionRefusedError("nobody listens"), resp.RedisRefused("WRONGPASS")])
async def test_a_node_that_takes_nobody_is_asked_at_growing_intervals_until_it_does(
    redis_url: str, error: Exception
) -> None:
    async with keeping(redis_url) as keeper:
        keeper.refuse = error
        await until(lambda: keeper.trouble > 0, "trouble")
        await until(lambda: keeper.kept.backoff.attempt >= 3, "three tries")
        keeper.refuse = None
        await until(lambda: len(keeper.connections) == 1, "a connection")
        assert keeper.kept.backoff.attempt >= 3, "a connection alone proves nothing"


async def test_nothing_is_waited_for_after_the_end(redis_url: str) -> None:
    async with keeping(redis_url) as keeper:
        keeper.refuse = OSError("down")
        await until(lambda: keeper.trouble > 0, "a pause before the next try")
    assert keeper.kept.is_closed
    tries = keeper.tries
    await keeper.kept.run()
    assert keeper.tries == tries


async def test_a_connection_that_comes_after_the_end_is_cut(redis_url: str) -> None:
    async with keeping(redis_url) as keeper:
        keeper.waits.clear()  # before its first turn
        await until(lambda: keeper.tries == 1, "the first try")
        keeper.kept.close()
        keeper.waits.set()
        await until(lambda: len(keeper.made) == 1, "a connection that nobody waits for")
    assert keeper.connections == []
    assert not keeper.made[0].is_open
