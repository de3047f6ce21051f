"""Devices by the thousand in one process: connect, take events in order, ack as the SDK does, come back when cut, move
when told.

Each device is a few small objects and no task. Events are not parsed beyond their seq, their id and the time they were
sent, which the publisher put into `data` as `sent_ns` (CLOCK_MONOTONIC, shared by all processes of a machine).

Moving is make-before-break, as in the SDK: the second socket is opened beside the first, an event is shown when it is
the next one whichever socket brings it, acks go by the newest welcomed one, and the hub ends the older.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from urllib.parse import quote, urlsplit
from uuid import UUID

from loadtests.driver.connection import Connection
from loadtests.driver.history import History
from loadtests.driver.latency import Latencies
from loadtests.driver.wire import TEXT, handshake, masked_frame
from shared.backoff import full_jitter

__all__ = ["Device", "Fleet", "FleetOptions"]

_SENT = b'"sent_ns":'
_ID = b'"id":"'
HANDSHAKE_DEADLINE_S = 15.0
LEAVE_S = 0.1  # for the last ack to be taken


@dataclass(frozen=True)
class FleetOptions:
    """How the devices behave. `ack_every` 1 acks each event at once; `jitter_s` 0 comes back without waiting."""

    ack_every: int = 16
    ack_s: float = 0.5
    jitter_s: float = 1.0
    keep_history: bool = True
    connects_at_once: int = 200
    source_addresses: int = 1


@dataclass
class Totals:
    """Counters over all devices of a fleet. `connected` counts sockets, `welcomed` devices with a welcomed one.

    `moves_told` counts `moved` frames, `moves_done` those whose device was welcomed where it was told to go.
    """

    connected: int = 0
    welcomed: int = 0
    events: int = 0
    acks: int = 0
    gaps: int = 0
    resets: int = 0
    moves_told: int = 0
    moves_done: int = 0
    closes: Counter[int] = field(default_factory=Counter)
    refusals: Counter[int] = field(default_factory=Counter)


class Device:
    """One device over all its connections."""

    def __init__(self, fleet: "Fleet", device_id: str) -> None:
        self.fleet = fleet
        self.device_id = device_id
        self.epoch = 0
        self.seq = 0
        self.hub = ""  # the one that welcomed it last
        self._unacked = 0
        self._attempt = 0
        self._failures = 0
        self._dialing = 0
        self._elsewhere: list[str] = []  # addresses of the newest assignment that were not tried yet
        self._move_to: str | None = None  # told, and not gone yet
        self._moving: int | None = None  # the number of the connection that is the move
        self._ack_timer: asyncio.TimerHandle | None = None
        self._connections: dict[int, Connection] = {}
        self._newest: Connection | None = None  # of the welcomed ones
        self._left = False
        self._instance = UUID(int=fleet.rand.getrandbits(128), version=4)

    @property
    def welcomed(self) -> bool:
        """Whether events come."""
        return self._newest is not None

    async def connect(self) -> None:
        """One try to open a socket, where it was told to go or where it is assigned; failing counts as a lost one."""
        self._dialing += 1
        try:
            moved_to, self._move_to = self._move_to, None
            url = moved_to or await self._address()
            async with asyncio.timeout(HANDSHAKE_DEADLINE_S), self.fleet.gate:
                self._attempt += 1
                number = self._attempt
                if moved_to is not None:
                    self._moving = number
                parts = urlsplit(url)
                request = handshake(parts.netloc, self._target(url), self.fleet.address(self.device_id)[1])
                connection = self._connections[number] = Connection(self, number, request, after=(self.epoch, self.seq))
                try:
                    await asyncio.get_running_loop().create_connection(
                        lambda: connection,
                        parts.hostname or "",
                        parts.port or (443 if parts.scheme == "wss" else 80),
                        local_addr=self.fleet.source_address(),
                    )
                except BaseException:
                    self._connections.pop(number, None)
                    raise
        except (OSError, TimeoutError):
            self._dialing -= 1
            self._come_back()
        else:
            self._dialing -= 1

    async def _address(self) -> str:
        if self.fleet.assign is None:
            return self.fleet.address(self.device_id)[0]
        if not self._elsewhere:
            self._elsewhere = list(await self.fleet.assign(self.device_id))
        return self._elsewhere.pop(0)

    def _target(self, url: str) -> str:
        parts = urlsplit(url)
        after = f"&after={self.epoch}:{self.seq}" if self.epoch else ""
        query = f"device_id={quote(self.device_id)}{after}&instance={self._instance}&attempt={self._attempt}"
        return f"{parts.path}?{query}{'&' + parts.query if parts.query else ''}"

    # From its connections

    def on_opened(self, connection: Connection) -> None:
        """The handshake was answered by 101."""
        self.fleet.totals.connected += 1

    def on_event(self, connection: Connection, seq: int, payload: bytes) -> None:
        """An event; the next one of the device, or one that its other socket has brought already."""
        fleet = self.fleet
        if connection.seq < seq <= self.seq:
            connection.seq = seq
            return
        # What one socket repeats, or both skip, is the hub's fault, and the history's to judge.
        if seq != self.seq + 1:
            fleet.totals.gaps += 1
        connection.seq = max(seq, connection.seq)
        self.seq = max(seq, self.seq)
        fleet.totals.events += 1
        at = payload.find(_SENT)
        if at >= 0:
            start = at + len(_SENT)
            digits = payload[start : start + 20]
            sent = int(digits[: len(digits) - len(digits.lstrip(b"0123456789"))])
            fleet.latencies.add((time.monotonic_ns() - sent) / 1e6)
        if fleet.on_event is not None:
            fleet.on_event(self.device_id, payload)
        if fleet.options.keep_history:
            at = payload.find(_ID) + len(_ID)
            fleet.history.shown(self.device_id, payload[at : payload.index(b'"', at)].decode())
        self._unacked += 1
        if self._unacked >= fleet.options.ack_every:
            self.ack()
        elif self._ack_timer is None:
            self._ack_timer = fleet.loop.call_later(fleet.options.ack_s, self.ack)

    def on_frame(self, connection: Connection, payload: bytes) -> None:
        """Any other text frame."""
        frame = json.loads(payload)
        match frame["type"]:
            case "welcome":
                self._on_welcome(connection, frame)
            case "reset":
                self.fleet.totals.resets += 1
                epoch, _, seq = frame["position"].partition(":")
                self.epoch, self.seq = int(epoch), int(seq)
                connection.seq = self.seq
            case "moved":
                self._on_moved(connection, frame)

    def on_close_frame(self, connection: Connection, code: int) -> None:
        """The hub ends this connection."""
        self.fleet.totals.closes[code] += 1

    def on_lost(self, connection: Connection) -> None:
        """A connection is gone, or its handshake was refused."""
        totals = self.fleet.totals
        if self._connections.pop(connection.number, None) is None:
            return
        if connection.open:
            totals.connected -= 1
        elif connection.status:
            totals.refusals[connection.status] += 1
        if connection is self._newest:
            self._newest = max(
                (one for one in self._connections.values() if one.welcomed), key=lambda one: one.number, default=None
            )
            if self._newest is None:
                totals.welcomed -= 1
        self._come_back()

    def _on_welcome(self, connection: Connection, frame: dict[str, object]) -> None:
        totals = self.fleet.totals
        epoch, _, seq = str(frame["position"]).partition(":")
        if int(epoch) != self.epoch:
            self.epoch, self.seq = int(epoch), int(seq)
        # Begun lower than it was asked to, it repeats, and is to be seen to.
        connection.seq = max(int(seq), connection.after[1]) if connection.after[0] == int(epoch) else int(seq)
        connection.welcomed = True
        if self._left:
            connection.cut()
        self.hub = str(frame["hub"])
        self._failures = 0
        self._elsewhere = []
        if connection.number == self._moving:
            self._moving = None
            totals.moves_done += 1
        if self._newest is None:
            totals.welcomed += 1
        if self._newest is None or connection.number > self._newest.number:
            self._newest = connection
        if self.seq > int(str(frame["acked"])):
            self._unacked = 1
            self.ack()

    def _on_moved(self, connection: Connection, frame: dict[str, object]) -> None:
        self.fleet.totals.moves_told += 1
        if self.fleet.on_moved is not None:
            self.fleet.on_moved(self, frame)
        if connection is not self._newest or self._move_to is not None:
            return
        self._move_to = str(frame["url"])
        self.fleet.loop.call_later(int(str(frame["after_ms"])) / 1000, self._move)

    def _move(self) -> None:
        if self._move_to is None:
            return
        if self._newest is None or self.fleet.stopping or self._left:
            self._move_to = None  # it comes back by itself
        else:
            self.fleet.start(self)

    # What it does

    def ack(self) -> None:
        """Ack everything shown so far, by the newest socket."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        if self._unacked and self._newest is not None:
            self._unacked = 0
            self.fleet.totals.acks += 1
            self._newest.write(masked_frame(TEXT, b'{"type":"ack","seq":%d}' % self.seq))

    def cut(self) -> None:
        """Break its connections, as a lost link does."""
        for connection in tuple(self._connections.values()):
            connection.cut()

    def leave(self) -> None:
        """Ack what was shown, and go for good."""
        self._left = True
        self.ack()
        self.fleet.loop.call_later(LEAVE_S, self.cut)

    def _come_back(self) -> None:
        """Unless a socket is open or on its way."""
        if self.fleet.stopping or self._left or self._connections or self._dialing:
            return
        if self._elsewhere:  # the assignment named another hub
            self.fleet.start(self)
            return
        delay = full_jitter(self._failures, self.fleet.rand, base=max(self.fleet.options.jitter_s, 0.02), cap=10.0)
        self._failures += 1
        self.fleet.loop.call_later(delay, self.fleet.start, self)


class Fleet:
    """All devices of one driver process, with what they saw."""

    def __init__(
        self,
        device_ids: list[str],
        address: Callable[[str], tuple[str, str]],
        options: FleetOptions,
        rand: Random,
        *,
        assign: Callable[[str], Awaitable[Sequence[str]]] | None = None,
    ) -> None:
        """`address` gives a device's socket url and token. With `assign` the urls come from there, best first, asked
        before every connection but a move; it raises OSError when there is none.
        """
        self.address = address
        self.assign = assign
        self.options = options
        self.rand = rand
        self.loop = asyncio.get_running_loop()
        self.gate = asyncio.Semaphore(options.connects_at_once)
        self.history = History()
        self.latencies = Latencies()
        self.totals = Totals()
        self.stopping = False
        self.on_event: Callable[[str, bytes], None] | None = None
        self.on_moved: Callable[[Device, dict[str, object]], None] | None = None
        self.devices = [Device(self, device_id) for device_id in device_ids]
        self._tasks: set[asyncio.Task[None]] = set()
        self._connects = 0

    def source_address(self) -> tuple[str, int] | None:
        """Loopback addresses in turn: one address pair has only some 28,000 ports."""
        if self.options.source_addresses <= 1:
            return None
        self._connects += 1
        number = self._connects % self.options.source_addresses
        return (f"127.0.{1 + number // 250}.{1 + number % 250}", 0)

    def start(self, device: Device) -> None:
        """Let one device connect."""
        if not self.stopping:
            task = self.loop.create_task(device.connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def start_all(self) -> None:
        """Let all devices connect, at most `connects_at_once` at a time."""
        for device in self.devices:
            self.start(device)

    async def until(self, condition: Callable[[], bool], deadline_s: float, *, step_s: float = 0.01) -> bool:
        """Wait for a condition over the fleet. Returns whether it came true in time."""
        end = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(step_s)
        return True

    async def all_welcomed(self, deadline_s: float) -> bool:
        """Wait until every device is connected and welcomed."""
        return await self.until(lambda: self.totals.welcomed == len(self.devices), deadline_s)

    async def stop(self) -> None:
        """Ack what was shown and close every socket."""
        self.stopping = True
        for device in self.devices:
            device.ack()
        await asyncio.sleep(0.1)
        for device in self.devices:
            device.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
