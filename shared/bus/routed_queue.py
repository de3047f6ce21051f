"""A bounded queue of commands for Redis that nobody waits for: to the node that has the key, one queue per node.

`offer()` never awaits: it takes the command or says that the queue is full; the bounds hold for all nodes together.
Commands of one key keep their order, also when the key moves: what is offered meanwhile is held back until the old
node has answered for what was sent there (at most `deadline_s`), then goes after it. A command that was answered
MOVED is sent once more where it belongs.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from random import Random

import structlog

from shared.bus.client import Endpoint
from shared.bus.command_queue import Budget, CommandQueue, Counters, Events, Item, Limits, Taken
from shared.bus.slot_map import Address, SlotMap, parse_moved
from shared.bus.topology import Topology
from shared.clock import monotonic
from shared.telemetry.metrics import BUS_CONNECTED, BUS_MOVED, BUS_NODES, BUS_QUEUED

__all__ = ["Limits", "Offer", "RoutedQueue"]

_log = structlog.get_logger(__name__)


class Offer(Enum):
    """What became of an offered command."""

    OFFERED = "offered"
    FULL = "full"
    CLOSED = "closed"


@dataclass(slots=True)
class _Moving:
    """A key slot whose new node gets nothing before the old one has answered."""

    source: CommandQueue
    returned: list[Item] = field(default_factory=list)
    later: list[Item] = field(default_factory=list)


class RoutedQueue:
    """`run()` keeps the connections; `close()` flushes and ends `run()`."""

    def __init__(
        self,
        url: str,
        *,
        role: str,
        name: str,
        rand: Random,
        limits: Limits | None = None,
        clock: Callable[[], float] = monotonic,
        on_taken: Taken | None = None,
    ) -> None:
        """`role` labels the metrics, `name` is shown by CLIENT LIST."""
        self._limits = limits or Limits()
        self._name = name
        self._rand = rand
        self._clock = clock
        self._counters = Counters(role, on_taken)
        self._moved = BUS_MOVED.labels(role)
        self._budget = Budget(self._limits)
        self._topology = Topology(url, name=name, rand=rand, deadline_s=self._limits.deadline_s, on_change=self._on_map)
        self._queues: dict[Address, CommandQueue] = {}
        self._only: CommandQueue | None = None
        # For what has no node (yet): before the first map, or in a key slot that nobody serves.
        self._homeless: deque[Item] = deque()
        self._moving: dict[int, _Moving] = {}
        # Nodes that hold what may belong elsewhere, looked at once what they were sent is answered.
        self._unsettled: set[Address] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._closing = False
        self._drained = asyncio.Event()
        BUS_QUEUED.labels(role).set_function(lambda: self.held)
        BUS_CONNECTED.labels(role).set_function(lambda: self.connected)
        BUS_NODES.labels(role).set_function(lambda: len(self._queues))

    def __repr__(self) -> str:
        held = f"{self._budget.commands} held, {self._budget.size_bytes} bytes"
        return f"RoutedQueue({self._counters.role}, {held}, {len(self._moving)} moving, {list(self._queues.values())})"

    @property
    def connected(self) -> bool:
        """Whether there is a connection to every node now."""
        return bool(self._queues) and all(queue.connected for queue in self._queues.values())

    @property
    def held(self) -> int:
        """Commands that wait or were not answered yet."""
        return self._budget.commands

    def offer(self, key_slot: int, command: bytes, *, is_counted: bool = True) -> Offer:
        """Take an encoded command, or say at once why not. Keeps the order of calls for one key slot."""
        if self._closing:
            self._counters.dropped["closing"].inc()
            return Offer.CLOSED
        now = self._clock()
        budget = self._budget
        if not budget.has_room(len(command)):
            self._expire(now)
            if not budget.has_room(len(command)):
                self._counters.dropped["full"].inc()
                return Offer.FULL
        budget.take(command)
        item = Item(command, now + self._limits.max_age_s, key_slot, is_counted)
        if self._only is not None:
            self._only.push(item)
        else:
            self._route(item)
        return Offer.OFFERED

    async def run(self) -> None:
        """Keep the connections until `close()`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._topology.run()
        finally:
            self._closing = True
            self._tasks = None
            self._end()

    async def close(self) -> None:
        """Take nothing more, give Redis a moment for what waits, then end."""
        self._closing = True
        if self.held:
            self._drained.clear()
            try:
                async with asyncio.timeout(self._limits.flush_s):
                    await self._drained.wait()
            except TimeoutError:
                _log.warning("not flushed at exit", role=self._counters.role, messages=self.held)
        self._end()

    def _end(self) -> None:
        self._topology.close()
        for queue in self._queues.values():
            queue.close()
        for item in [*self._homeless, *(item for one in self._moving.values() for item in one.returned + one.later)]:
            self._budget.give(item.command)
            self._counters.dropped["closing"].inc()
        self._homeless.clear()
        self._moving.clear()

    def _route(self, item: Item) -> None:
        moving = self._moving.get(item.key_slot)
        if moving is not None:
            moving.later.append(item)
            return
        owner = self._topology.owner(item.key_slot)
        queue = self._queues.get(owner) if owner is not None else None
        if queue is None:
            self._homeless.append(item)
            self._expire_homeless(self._clock())
        else:
            queue.push(item)

    def _expire(self, now: float) -> None:
        for queue in self._queues.values():
            queue.expire(now)
        self._expire_homeless(now)

    def _expire_homeless(self, now: float) -> None:
        while self._homeless and self._homeless[0].until <= now:
            self._budget.give(self._homeless.popleft().command)
            self._counters.dropped["expired"].inc()

    def _on_map(self, slots: SlotMap) -> None:
        for address in sorted(slots.owners):
            if address not in self._queues:
                self._queues[address] = self._start(self._topology.endpoint(address))
        self._only = next(iter(self._queues.values())) if self._is_single(slots) else None
        self._expire(self._clock())
        for address, queue in list(self._queues.items()):
            # Before what is in flight is answered, nothing of the same key slots may go to another node.
            for slot in queue.slots_in_flight():
                if slot >= 0 and slots.owner(slot) != address:
                    self._moving.setdefault(slot, _Moving(queue))
            if queue.is_idle:
                self._hand_over(address, queue)
            else:
                self._unsettled.add(address)
        homeless, self._homeless = self._homeless, deque()
        for item in homeless:
            self._route(item)
        self._drop_unused()

    def _is_single(self, slots: SlotMap) -> bool:
        return not self._topology.is_cluster and len(self._queues) == 1 and len(slots.owners) == 1

    def _start(self, endpoint: Endpoint) -> CommandQueue:
        queue = CommandQueue(
            endpoint,
            name=self._name,
            rand=self._rand,
            limits=self._limits,
            budget=self._budget,
            counters=self._counters,
            clock=self._clock,
            events=Events(self._on_refused, self._on_idle, self._topology.trouble),
        )
        assert self._tasks is not None, "maps come while run() runs"
        self._tasks.create_task(queue.run(), name=f"{self._name} {endpoint}")
        return queue

    def _on_refused(self, queue: CommandQueue, item: Item, error: str) -> bool:
        moved = parse_moved(error, self._address_of(queue))
        if moved is None or item.is_resent:
            if self._topology.is_cluster:
                self._topology.trouble(queue.endpoint)
            return False
        self._moved.inc()
        self._unsettled.add(self._address_of(queue))
        moving = self._moving.setdefault(moved.key_slot, _Moving(queue))
        moving.returned.append(item._replace(is_resent=True))
        self._topology.moved(moved.key_slot, moved.address)
        return True

    def _on_idle(self, queue: CommandQueue) -> None:
        """Nothing is in flight at this node any more, be it answered or lost."""
        if self._unsettled and (address := self._address_of(queue)) in self._unsettled:
            self._hand_over(address, queue)
            self._drop_unused()
        if not self._budget.commands:
            self._drained.set()

    @staticmethod
    def _address_of(queue: CommandQueue) -> Address:
        return Address(queue.endpoint.host, queue.endpoint.port)

    def _hand_over(self, address: Address, queue: CommandQueue) -> None:
        """Send on what left this node: first what it sent back, then what waited here, then what came since."""
        self._unsettled.discard(address)
        owner = self._topology.owner
        leaving = {slot: one for slot, one in self._moving.items() if one.source is queue}
        for slot in leaving:
            del self._moving[slot]
        waited = queue.take_waiting(lambda slot: owner(slot) == address and slot not in leaving)
        for one in leaving.values():
            for item in one.returned:
                self._route(item)
        for item in waited:
            self._route(item)
        for one in leaving.values():
            for item in one.later:
                self._route(item)

    def _drop_unused(self) -> None:
        slots = self._topology.map
        for address, queue in list(self._queues.items()):
            if slots is not None and address not in slots.owners and queue.is_empty:
                del self._queues[address]
                queue.close()
