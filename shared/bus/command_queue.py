"""A bounded queue of commands for Redis that nobody waits for.

`offer()` never awaits: it takes the command or says that the queue is full. What waits is written in pipelines, one
outstanding at a time, so order is kept and a burst costs one write. A pipeline that is not answered in time ends the
connection; its commands are sent again on the next one, unless they are older than `max_age_s`: by then the log has
done what the hint was for.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any, Final, NamedTuple

import hiredis
import structlog

from shared.backoff import Backoff
from shared.bus import resp
from shared.bus.client import Endpoint
from shared.clock import monotonic
from shared.telemetry.metrics import BUS_CONNECTED, BUS_DROPPED, BUS_PUBLISHED, BUS_QUEUED, BUS_RECONNECTS

__all__ = ["CommandQueue", "Limits", "Offer"]

# A timer that fires late because this process was stopped must not judge Redis before its answers are read.
_SECOND_LOOK_S: Final = 0.02

_log = structlog.get_logger(__name__)


class Offer(Enum):
    """What became of an offered command."""

    OFFERED = "offered"
    FULL = "full"
    CLOSED = "closed"


class Limits(NamedTuple):
    """Bounds of a queue. A pipeline is at most `batch` commands and, beyond its first, `batch_bytes`."""

    commands: int = 10_000
    size_bytes: int = 16 * 1024 * 1024
    max_age_s: float = 2.0
    deadline_s: float = 1.0
    batch: int = 256
    batch_bytes: int = 1024 * 1024
    flush_s: float = 1.0


class _Waiting(NamedTuple):
    command: bytes
    until: float


class CommandQueue:
    """One connection and what waits for it. `run()` keeps the connection; `close()` flushes and ends `run()`."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        role: str,
        name: str,
        rand: Random,
        limits: Limits = Limits(),  # noqa: B008 - immutable
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`role` labels the metrics, `name` is shown by CLIENT LIST."""
        self._endpoint = endpoint
        self._role = role
        self._name = name
        self._limits = limits
        self._clock = clock
        self._backoff = Backoff(rand, base=0.05, cap=0.5)
        self._waiting: deque[_Waiting] = deque()
        self._in_flight: deque[_Waiting] = deque()
        self._bytes = 0
        self._connection: resp.Connection | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._closing = False
        self._lost = asyncio.Event()
        self._drained = asyncio.Event()
        self._closed = asyncio.Event()
        self._published = BUS_PUBLISHED.labels(role)
        BUS_QUEUED.labels(role).set_function(lambda: self.held)
        self._connected = BUS_CONNECTED.labels(role)
        self._dropped = {
            reason: BUS_DROPPED.labels(role, reason) for reason in ("full", "expired", "refused", "closing")
        }

    def __repr__(self) -> str:
        state = "connected" if self._connection else "not connected"
        held = f"{len(self._waiting)} waiting, {len(self._in_flight)} in flight, {self._bytes} bytes"
        return f"CommandQueue({self._role}, {state}, {held})"

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None

    @property
    def held(self) -> int:
        """Commands that wait or were not answered yet."""
        return len(self._waiting) + len(self._in_flight)

    def offer(self, command: bytes) -> Offer:
        """Take an encoded command, or say at once why not. Keeps the order of calls."""
        if self._closing:
            self._dropped["closing"].inc()
            return Offer.CLOSED
        now = self._clock()
        if self._is_full(len(command)):
            self._expire(now)
            if self._is_full(len(command)):
                self._dropped["full"].inc()
                return Offer.FULL
        self._waiting.append(_Waiting(command, now + self._limits.max_age_s))
        self._bytes += len(command)
        if not self._scheduled and not self._in_flight and self._connection is not None:
            # Sent in the next turn of the loop, so that what is offered in this one goes in one write.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send)
        return Offer.OFFERED

    async def run(self) -> None:
        """Keep a connection until `close()`."""
        try:
            while not self._closed.is_set():
                await self._connect_once()
        finally:
            self._closing = True
            self._disconnect()

    async def close(self) -> None:
        """Take nothing more, give Redis a moment for what waits, then end."""
        self._closing = True
        if self.held:
            self._drained.clear()
            try:
                async with asyncio.timeout(self._limits.flush_s):
                    await self._drained.wait()
            except TimeoutError:
                self._dropped["closing"].inc(self.held)
                _log.warning("not flushed at exit", role=self._role, messages=self.held)
        self._closed.set()
        self._disconnect()
        self._lost.set()

    async def _connect_once(self) -> None:
        self._lost.clear()
        try:
            connection = await resp.connect(
                self._endpoint,
                deadline_s=self._limits.deadline_s,
                name=self._name,
                on_reply=self._on_reply,
                on_lost=self._on_lost,
                on_batch_end=self._on_batch_end,
            )
        except (OSError, resp.RedisRefused) as error:
            delay = self._backoff.next()
            if self._backoff.attempt == 1:
                _log.warning("cannot connect to Redis", role=self._role, redis=str(self._endpoint), error=repr(error))
            await self._wait_closed(delay)
            return
        if self._closed.is_set():
            connection.abort()
            return
        self._connection = connection
        self._connected.set(1)
        if self._backoff.attempt:
            _log.info("connected to Redis again", role=self._role)
        self._send()
        await self._lost.wait()
        if not self._closed.is_set():
            BUS_RECONNECTS.labels(self._role).inc()
            await self._wait_closed(self._backoff.next())

    async def _wait_closed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            pass

    def _is_full(self, size: int) -> bool:
        return self.held >= self._limits.commands or self._bytes + size > self._limits.size_bytes

    def _expire(self, now: float) -> None:
        waiting = self._waiting
        while waiting and waiting[0].until <= now:
            self._bytes -= len(waiting.popleft().command)
            self._dropped["expired"].inc()

    def _send(self) -> None:
        self._scheduled = False
        connection = self._connection
        if connection is None or self._in_flight:
            return
        self._expire(self._clock())
        limits, waiting, batch = self._limits, self._waiting, self._in_flight
        size = 0
        while (
            waiting
            and len(batch) < limits.batch
            and (not batch or size + len(waiting[0].command) <= limits.batch_bytes)
        ):
            item = waiting.popleft()
            size += len(item.command)
            batch.append(item)
        if not batch:
            self._drained.set()
            return
        connection.write(b"".join([item.command for item in batch]))
        self._deadline = asyncio.get_running_loop().call_later(limits.deadline_s, self._on_deadline, connection, False)

    def _on_reply(self, reply: Any) -> None:
        if not self._in_flight:
            return
        self._bytes -= len(self._in_flight.popleft().command)
        if isinstance(reply, hiredis.ReplyError):
            self._dropped["refused"].inc()
            _log.debug("Redis refused a command", role=self._role, error=str(reply))
        else:
            self._published.inc()

    def _on_batch_end(self) -> None:
        if self._in_flight or self._connection is None:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._backoff.reset()
        self._send()

    def _on_deadline(self, connection: resp.Connection, looked_twice: bool) -> None:
        if connection is not self._connection or not self._in_flight:
            return
        if not looked_twice:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(_SECOND_LOOK_S, self._on_deadline, connection, True)
            return
        _log.warning("Redis did not answer in time", role=self._role, deadline_s=self._limits.deadline_s)
        connection.abort()

    def _on_lost(self) -> None:
        self._disconnect()
        self._lost.set()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._connected.set(0)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        # Back to the front, in their order: the answers may only have been lost, and repeating a hint does no harm.
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        if connection is not None:
            connection.abort()
