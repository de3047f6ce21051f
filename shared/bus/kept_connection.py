"""A connection to one node of Redis that is made again whenever it is lost, after pauses that grow.

Only the loop is here, for it is the same for what reads and what publishes. What they do with a connection, when they
give one up and when one has proved itself, so that the pauses start anew (`backoff.reset()`), is theirs.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import structlog

from shared.backoff import Backoff
from shared.bus import resp
from shared.bus.client import Endpoint
from shared.bus.waiting import happened
from shared.telemetry.metrics import BUS_RECONNECTS

__all__ = ["KeptConnection"]

_log = structlog.get_logger(__name__)


class KeptConnection:
    """`run()` until `close()`. Whoever made the connection says by `lost()` that it is gone."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        role: str,
        rand: Random,
        tick_s: float,
        connect: Callable[[], Awaitable[resp.Connection]],
        on_connected: Callable[[resp.Connection], None],
        on_tick: Callable[[], None],
        on_trouble: Callable[[Endpoint], None],
    ) -> None:
        """`connect()` has a deadline of its own; `on_tick()` comes every `tick_s` while there is a connection."""
        self.backoff = Backoff(rand, base=0.05, cap=0.5)
        self._endpoint = endpoint
        self._role = role
        self._tick_s = tick_s
        self._connect = connect
        self._on_connected = on_connected
        self._on_tick = on_tick
        self._on_trouble = on_trouble
        self._reconnects = BUS_RECONNECTS.labels(role)
        self._lost = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether there will be no other connection."""
        return self._closed.is_set()

    async def run(self) -> None:
        """Keep a connection until `close()`."""
        while not self._closed.is_set():
            await self._keep_one()

    def lost(self) -> None:
        """The connection is gone: make another."""
        self._lost.set()

    def close(self) -> None:
        """End `run()`. Ending the connection that there is stays with whoever has it."""
        self._closed.set()
        self._lost.set()

    async def _keep_one(self) -> None:
        self._lost.clear()
        try:
            connection = await self._connect()
        except (OSError, resp.RedisRefused) as error:
            delay = self.backoff.next()
            if self.backoff.attempt == 1:
                _log.warning("cannot connect to Redis", role=self._role, redis=str(self._endpoint), error=repr(error))
            self._on_trouble(self._endpoint)
            await happened(self._closed, delay)
            return
        if self._closed.is_set():
            connection.abort()
            return
        if self.backoff.attempt:
            _log.info("connected to Redis again", role=self._role, redis=str(self._endpoint))
        self._on_connected(connection)
        while not await happened(self._lost, self._tick_s):
            self._on_tick()
        if not self._closed.is_set():
            self._reconnects.inc()
            self._on_trouble(self._endpoint)
            await happened(self._closed, self.backoff.next())
