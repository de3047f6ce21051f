"""What waits for one node of Redis, and the connection it goes by.

What waits is written in pipelines, one outstanding at a time, so order is kept and a burst costs one write. A pipeline
that is not answered in time ends the connection; its commands are sent again on the next one, unless they are older
than `max_age_s`: by then the log has done what the hint was for. `routed_queue` puts one of these before each node.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple

import hiredis
import structlog

from shared.bus import resp
from shared.bus.client import Endpoint
from shared.bus.kept_connection import KeptConnection
from shared.stages import Stage
from shared.telemetry.metrics import BUS_DELIVERIES, BUS_DROPPED, BUS_PUBLISHED, STAGE_LAG_SECONDS

__all__ = ["Budget", "CommandQueue", "Counters", "Item", "Limits", "Taken"]

# A timer that fires late because this process was stopped must not judge Redis before its answers are read.
_SECOND_LOOK_S: Final = 0.02
# A server that is no primary any more takes what is published and brings it to nobody.
_ROLE_CHECK_S: Final = 0.5
_NO_SLOT: Final = -1
# How often it is looked how long a message waited before it left.
_TIME_EVERY_S: Final = 0.1

_log = structlog.get_logger(__name__)


class Limits(NamedTuple):
    """Bounds of all that waits. A pipeline is at most `batch` commands and, beyond its first, `batch_bytes`."""

    commands: int = 10_000
    size_bytes: int = 16 * 1024 * 1024
    max_age_s: float = 2.0
    deadline_s: float = 1.0
    batch: int = 256
    batch_bytes: int = 1024 * 1024
    flush_s: float = 1.0


class Item(NamedTuple):
    """A command that waits. `is_counted` is false for what measures the bus instead of using it."""

    command: bytes
    until: float
    key_slot: int
    is_counted: bool = True
    is_resent: bool = False


class Budget:
    """What all nodes' queues hold together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.commands = 0
        self.size_bytes = 0

    def has_room(self, size: int) -> bool:
        """Whether one more command of this size is within the bounds."""
        return self.commands < self._limits.commands and self.size_bytes + size <= self._limits.size_bytes

    def take(self, command: bytes) -> None:
        """One more is held."""
        self.commands += 1
        self.size_bytes += len(command)

    def give(self, command: bytes) -> None:
        """One less is held."""
        self.commands -= 1
        self.size_bytes -= len(command)


Taken = Callable[[bytes, float], None]
"""Told of a command that Redis took, and how many seconds it had waited for that."""


class Counters:
    """Metrics of one role, looked up once."""

    def __init__(self, role: str, on_taken: Taken | None = None) -> None:
        self.role = role
        self.on_taken = on_taken
        self.published = BUS_PUBLISHED.labels(role)
        self.uncounted = BUS_PUBLISHED.labels("canary")
        self.deliveries = BUS_DELIVERIES.labels(role)
        # Events leave by one role only.
        self.waited = STAGE_LAG_SECONDS.labels(Stage.PUBLISHED) if role == "publisher" else None
        self.dropped = {
            reason: BUS_DROPPED.labels(role, reason) for reason in ("full", "expired", "refused", "closing")
        }


@dataclass(frozen=True, slots=True)
class Events:
    """What a queue tells of itself. `refused` answers whether it took the command over."""

    refused: Callable[["CommandQueue", Item, str], bool]
    idle: Callable[["CommandQueue"], None]
    trouble: Callable[[Endpoint], None]


class CommandQueue:
    """One node. `run()` keeps the connection until `close()`."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        name: str,
        rand: Random,
        limits: Limits,
        budget: Budget,
        counters: Counters,
        clock: Callable[[], float],
        events: Events,
    ) -> None:
        """`name` is shown by CLIENT LIST. What is pushed is in the budget already."""
        self.endpoint = endpoint
        self._name = name
        self._limits = limits
        self._budget = budget
        self._counters = counters
        self._clock = clock
        self._events = events
        self._kept = KeptConnection(
            endpoint,
            role=counters.role,
            rand=rand,
            tick_s=_ROLE_CHECK_S,
            connect=self._connect,
            on_connected=self._on_connected,
            on_tick=self._ask_role,
            on_trouble=events.trouble,
        )
        self._waiting: deque[Item] = deque()
        self._in_flight: deque[Item] = deque()
        self._connection: resp.Connection | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._received = 0
        self._time_next = 0.0

    def __repr__(self) -> str:
        state = "connected" if self._connection else "not connected"
        return f"CommandQueue({self.endpoint}, {state}, {len(self._waiting)} waiting, {len(self._in_flight)} in flight)"

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._in_flight

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._in_flight and not self._waiting

    def push(self, item: Item) -> None:
        """Behind everything else."""
        self._waiting.append(item)
        if not self._scheduled and not self._in_flight and self._connection is not None:
            # Sent in the next turn of the loop, so that what is offered in this one goes in one write.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send)

    def take_waiting(self, belongs: Callable[[int], bool]) -> list[Item]:
        """Take out, in order, what waits and does not belong here by its key slot. What is in flight stays."""
        taken: list[Item] = []
        kept: deque[Item] = deque()
        for item in self._waiting:
            if item.key_slot == _NO_SLOT or belongs(item.key_slot):
                kept.append(item)
            else:
                taken.append(item)
        self._waiting = kept
        return taken

    def slots_in_flight(self) -> set[int]:
        """Key slots of commands that were written and not answered yet."""
        return {item.key_slot for item in self._in_flight}

    def expire(self, now: float) -> None:
        """Forget what waited too long."""
        waiting = self._waiting
        while waiting and waiting[0].until <= now:
            self._drop(waiting.popleft(), "expired")

    async def run(self) -> None:
        """Keep a connection until `close()`."""
        try:
            await self._kept.run()
        finally:
            self._disconnect()

    def close(self) -> None:
        """End `run()`. What is still held is lost."""
        self._kept.close()
        self._disconnect()
        for item in self._waiting:
            self._drop(item, "closing")
        self._waiting.clear()

    async def _connect(self) -> resp.Connection:
        return await resp.connect(
            self.endpoint,
            deadline_s=self._limits.deadline_s,
            name=self._name,
            on_reply=self._on_reply,
            on_lost=self._on_lost,
            on_batch_end=self._on_batch_end,
            primary=True,
        )

    def _on_connected(self, connection: resp.Connection) -> None:
        self._connection = connection
        self._send()

    def _ask_role(self) -> None:
        if not self._in_flight:  # else it is being asked something already, under a deadline
            self._budget.take(resp.ASK_ROLE)
            self.push(Item(resp.ASK_ROLE, self._clock() + self._limits.max_age_s, _NO_SLOT))

    def _send(self) -> None:
        self._scheduled = False
        connection = self._connection
        if connection is None or self._in_flight:
            return
        now = self._clock()
        self.expire(now)
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
            return
        connection.write(b"".join([item.command for item in batch]))
        if now >= self._time_next and batch[0].is_counted and batch[0].key_slot != _NO_SLOT:
            self._time_next = now + _TIME_EVERY_S
            if self._counters.waited is not None:
                self._counters.waited.observe(now - (batch[0].until - limits.max_age_s))
        self._deadline = asyncio.get_running_loop().call_later(limits.deadline_s, self._on_deadline, connection, False)

    def _on_reply(self, reply: Any) -> None:
        if not self._in_flight:
            return
        item = self._in_flight.popleft()
        if item.key_slot == _NO_SLOT:
            self._budget.give(item.command)
            if not resp.Server.from_hello(reply).is_primary and self._connection is not None:
                _log.warning("this Redis is a replica now", redis=str(self.endpoint))
                self._connection.abort()
        elif isinstance(reply, hiredis.ReplyError):
            error = str(reply)
            if not self._events.refused(self, item, error):
                self._drop(item, "refused")
                _log.debug("Redis refused a command", role=self._counters.role, error=error)
        else:
            self._budget.give(item.command)
            if not item.is_counted:
                self._counters.uncounted.inc()
                return
            self._counters.published.inc()
            if self._counters.on_taken is not None:
                self._counters.on_taken(item.command, self._clock() - (item.until - self._limits.max_age_s))
            if type(reply) is int:
                self._received += reply

    def _on_batch_end(self) -> None:
        if self._received:
            self._counters.deliveries.inc(self._received)
            self._received = 0
        if self._in_flight or self._connection is None:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._kept.backoff.reset()
        self._events.idle(self)
        self._send()

    def _on_deadline(self, connection: resp.Connection, looked_twice: bool) -> None:
        if connection is not self._connection or not self._in_flight:
            return
        if not looked_twice:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(_SECOND_LOOK_S, self._on_deadline, connection, True)
            return
        role = self._counters.role
        _log.warning("Redis did not answer in time", role=role, deadline_s=self._limits.deadline_s)
        connection.abort()

    def _on_lost(self) -> None:
        self._disconnect()
        self._kept.lost()
        self._events.idle(self)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        # Back to the front, in their order: the answers may only have been lost, and repeating a hint does no harm.
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        if connection is not None:
            connection.abort()

    def _drop(self, item: Item, reason: str) -> None:
        self._budget.give(item.command)
        if item.key_slot != _NO_SLOT:
            self._counters.dropped[reason].inc()
