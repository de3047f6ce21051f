"""The hub's ear: reads the slots its devices are in, wherever they are served, and says when one may have been missed.

May lose, repeat, delay; never reorders what one publisher sent to one slot. There is one connection per node that
serves a slot, and each slot is subscribed at one node. Every break (connection lost, subscription ended by Redis,
refused, moved to another node) is a gap: `on_gap(slots)` comes when those slots are live again, and the one who is
told reads the log.
"""

import asyncio
from collections.abc import Callable, Mapping
from random import Random, SystemRandom
from typing import Final, NamedTuple, Protocol

from shared.bus.client import Endpoint
from shared.bus.names import slot_channel, slot_of_channel
from shared.bus.node_reader import Ears, NodeReader, OnMessage, Taker
from shared.bus.slot_map import Address, Moved, SlotMap, key_slot
from shared.bus.subscriptions import Subscriptions
from shared.bus.topology import Topology
from shared.clock import monotonic
from shared.hash_slots import SLOTS
from shared.telemetry.metrics import BUS_CONNECTED, BUS_NODES

__all__ = ["CanaryListener", "Shard", "SlotReader"]

_ROLE: Final = "reader"

OnGap = Callable[[frozenset[int]], None]


class Shard(NamedTuple):
    """A node that serves slots, and the channel by which it is watched."""

    endpoint: Endpoint
    channel: bytes


class CanaryListener(Protocol):
    """Who watches whether the nodes deliver."""

    def on_shards(self, shards: Mapping[Address, Shard]) -> None:
        """These are the nodes now."""

    def on_connection(self, address: Address, is_up: bool) -> None:
        """The connection to one of them came or went."""

    def on_canary(self, address: Address, number: int, run_id: bytes) -> None:
        """A canary came by this one."""


class SlotReader:
    """Reads slots from one Redis or from the nodes of a cluster. `run()` is its task, `close()` ends it."""

    def __init__(
        self,
        url: str,
        *,
        on_message: OnMessage,
        on_gap: OnGap,
        takers: Mapping[bytes, Taker] | None = None,
        on_batch: Callable[[], None] = lambda: None,
        on_batch_end: Callable[[], None] = lambda: None,
        name: str = "reader",
        rand: Random | None = None,
        linger_s: float = 30.0,
        deadline_s: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`on_message(kind, device_id, epoch, seq, body)` and `on_gap(slots)` must not block.

        An event whose device id is in `takers` goes there by `taker(epoch, seq, body)` instead. `on_batch()` comes
        before the first message of each read from a socket, `on_batch_end()` after the last. `deadline_s` bounds
        connecting and each confirmation.
        """
        self._name = name
        self._on_gap = on_gap
        self._linger_s = linger_s
        self._deadline_s = deadline_s
        self._clock = clock
        self._rand = rand or SystemRandom()
        self._topology = Topology(url, name=name, rand=self._rand, deadline_s=deadline_s, on_change=self._on_map)
        self._nodes: dict[Address, NodeReader] = {}
        # For channels that have no node (yet): wanted, and subscribed nowhere.
        self._nowhere = Subscriptions(linger_s=linger_s)
        self._homes: dict[bytes, Subscriptions] = {}
        self._waiters: dict[bytes, list[asyncio.Future[None]]] = {}
        self._channels: dict[bytes, OnMessage] = {}
        self._canaries: CanaryListener | None = None
        self._canary_channel: Callable[[int], bytes] | None = None
        self._shards: dict[Address, Shard] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._ears = Ears(
            message=on_message,
            takers={} if takers is None else takers,
            messages=on_batch,
            messages_end=on_batch_end,
            channels=self._channels,
            confirmed=self._wake,
            gaps=self._on_gaps,
            moved=self._on_moved,
            trouble=self._topology.trouble,
            connection=self._on_connection,
        )
        BUS_CONNECTED.labels(_ROLE).set_function(lambda: self.connected)
        BUS_NODES.labels(_ROLE).set_function(lambda: len(self._nodes))

    def __repr__(self) -> str:
        return f"SlotReader({list(self._nodes.values()) or self._nowhere!r})"

    @property
    def connected(self) -> bool:
        """Whether there is a connection to every node now. That they deliver is for the canaries to show."""
        return bool(self._nodes) and all(node.connected for node in self._nodes.values())

    @property
    def all_confirmed(self) -> bool:
        """Whether everything wanted is subscribed."""
        return self._nowhere.all_confirmed and all(node.subscriptions.all_confirmed for node in self._nodes.values())

    @property
    def first_seed(self) -> Endpoint:
        """Where Redis is as long as its nodes are not known."""
        return self._topology.seeds[0]

    def shard_of(self, slot: int) -> Address | None:
        """Which node serves a slot; None when nobody is known to."""
        return self._topology.owner(key_slot(slot_channel(slot)))

    def reaches(self, slot: int) -> bool:
        """Whether there is a connection to the node that serves the slot."""
        address = self.shard_of(slot)
        node = self._nodes.get(address) if address is not None else None
        return node is not None and node.connected

    def acquire(self, slot: int) -> None:
        """One more device of this slot is here. Then `await wait_confirmed(slot)`, then read the log."""
        self._acquire(slot_channel(slot))

    def release(self, slot: int) -> None:
        """One device less. The slot stays subscribed for a while."""
        channel = slot_channel(slot)
        self._homes[channel].release(channel, self._clock())

    def is_confirmed(self, slot: int) -> bool:
        """Whether the slot is subscribed, as far as Redis said."""
        return self._is_confirmed(slot_channel(slot))

    async def wait_confirmed(self, slot: int, deadline_s: float) -> bool:
        """True once the slot is subscribed; False after `deadline_s`, and then `on_gap` comes when it is."""
        channel = slot_channel(slot)
        if self._is_confirmed(channel):
            return True
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(channel, []).append(confirmed)
        try:
            async with asyncio.timeout(deadline_s):
                await confirmed
        except TimeoutError:
            if (home := self._homes.get(channel)) is not None:
                home.owe(channel)
            return False
        finally:
            self._forget_waiter(channel, confirmed)
        return True

    def acquire_channel(self, channel: bytes, on_message: OnMessage) -> None:
        """Also read a channel that is no slot's, for example of notices, until `release_channel`.

        Its messages go to its own `on_message`, except events and newer connections: those are about a device wherever
        they come by. A break is not told: what is published meanwhile is lost.
        """
        if channel in self._channels:
            raise AssertionError(f"{channel!r} is read already")
        self._channels[channel] = on_message
        self._acquire(channel)

    def release_channel(self, channel: bytes) -> None:
        """Read it no more."""
        del self._channels[channel]
        self._homes[channel].release(channel, self._clock())

    def listen_for_canaries(self, channel_of: Callable[[int], bytes], listener: CanaryListener) -> None:
        """Also read a canary channel at every node, on the very connection that slots are read by.

        `channel_of(slot)` is the channel that lies at the node of that slot. Called once, before `run()`.
        """
        self._canary_channel, self._canaries = channel_of, listener

    def reconnect(self, address: Address, reason: str) -> None:
        """Give up the connection to a node and make another: it looks alive and does not deliver."""
        node = self._nodes.get(address)
        if node is not None:
            node.reconnect(reason)
            self._topology.trouble(node.endpoint)

    def suspect(self, address: Address) -> None:
        """A node is late: perhaps another serves its slots by now."""
        node = self._nodes.get(address)
        if node is not None:
            self._topology.trouble(node.endpoint)

    async def run(self) -> None:
        """Keep the connections until `close()`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._topology.run()
        finally:
            self._tasks = None
            self._end()

    async def close(self) -> None:
        """Read nothing more and end `run()`."""
        self._end()

    def _end(self) -> None:
        self._topology.close()
        for node in self._nodes.values():
            node.close()

    def _acquire(self, channel: bytes) -> None:
        home = self._homes.get(channel)
        if home is None:
            home = self._homes[channel] = self._home(channel)
        home.acquire(channel, self._clock())
        self._write_commands()

    def _home(self, channel: bytes) -> Subscriptions:
        owner = self._topology.owner(key_slot(channel))
        node = self._nodes.get(owner) if owner is not None else None
        return node.subscriptions if node is not None else self._nowhere

    def _is_confirmed(self, channel: bytes) -> bool:
        home = self._homes.get(channel)
        return home is not None and home.is_confirmed(channel)

    def _write_commands(self) -> None:
        for node in self._nodes.values():
            node.write_commands()

    def _on_map(self, slots: SlotMap) -> None:
        for address in sorted(slots.owners - self._nodes.keys()):
            self._nodes[address] = self._start(self._topology.endpoint(address))
        now = self._clock()
        for channel, home in list(self._homes.items()):
            new_home = self._home(channel)
            if new_home is home:
                continue
            held = home.take_out(channel, now)
            if held is None:
                del self._homes[channel]
            else:
                self._homes[channel] = new_home
                new_home.adopt(channel, held, now)
        self._watch_shards(slots, now)
        self._write_commands()
        for address in self._nodes.keys() - slots.owners:
            self._nodes.pop(address).close()

    def _start(self, endpoint: Endpoint) -> NodeReader:
        node = NodeReader(
            endpoint,
            self._ears,
            name=self._name,
            rand=self._rand,
            linger_s=self._linger_s,
            deadline_s=self._deadline_s,
            clock=self._clock,
        )
        assert self._tasks is not None, "maps come while run() runs"
        self._tasks.create_task(node.run(), name=f"{self._name} {endpoint}")
        return node

    def _watch_shards(self, slots: SlotMap, now: float) -> None:
        """One canary channel at each node, kept where it is for as long as it lies there."""
        if self._canaries is None or self._canary_channel is None:
            return
        for address, shard in list(self._shards.items()):
            if slots.owner(key_slot(shard.channel)) != address:
                del self._shards[address]
                self._channels.pop(shard.channel, None)
                self._nodes[address].subscriptions.take_out(shard.channel, now)
        for slot in range(SLOTS):
            owner = slots.owner(key_slot(slot_channel(slot)))
            if owner is None or owner in self._shards:
                continue
            node = self._nodes[owner]
            shard = self._shards[owner] = Shard(node.endpoint, self._canary_channel(slot))
            self._channels[shard.channel] = self._canary_taker(owner)
            node.subscriptions.acquire(shard.channel, now)
            if len(self._shards) == len(slots.owners):
                break
        self._canaries.on_shards(dict(self._shards))

    def _canary_taker(self, address: Address) -> OnMessage:
        def take(kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
            if self._canaries is not None:
                self._canaries.on_canary(address, seq, body)

        return take

    def _on_connection(self, node: NodeReader, is_up: bool) -> None:
        address = next((address for address, one in self._nodes.items() if one is node), None)
        if self._canaries is not None and address is not None:
            self._canaries.on_connection(address, is_up)

    def _on_moved(self, moved: Moved) -> None:
        self._topology.moved(moved.key_slot, moved.address)

    def _on_gaps(self, channels: frozenset[bytes]) -> None:
        slots = frozenset(slot for channel in channels if (slot := slot_of_channel(channel)) is not None)
        if slots:
            self._on_gap(slots)

    def _wake(self, channel: bytes) -> None:
        for waiter in self._waiters.pop(channel, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _forget_waiter(self, channel: bytes, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(channel)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[channel]
