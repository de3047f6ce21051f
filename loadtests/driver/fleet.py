"""Devices by the thousand in one process: connect, take events in order, ack as the SDK does, come back when cut.

Each device is one protocol object and no task. Events are not parsed beyond their seq, their id and the time they were
sent, which the publisher put into `data` as `sent_ns` (CLOCK_MONOTONIC, shared by all processes of a machine).
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import cast
from urllib.parse import quote, urlsplit
from uuid import UUID

from loadtests.driver.history import History
from loadtests.driver.latency import Latencies
from loadtests.driver.wire import CLOSE, PING, PONG, TEXT, FrameReader, handshake, masked_frame
from shared.backoff import full_jitter

__all__ = ["Device", "Fleet", "FleetOptions"]

_EVENT = b'{"type":"event","seq":'
_SENT = b'"sent_ns":'
_ID = b'"id":"'
HANDSHAKE_DEADLINE_S = 15.0


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
    """Counters over all devices of a fleet."""

    connected: int = 0
    welcomed: int = 0
    events: int = 0
    acks: int = 0
    gaps: int = 0
    resets: int = 0
    closes: Counter[int] = field(default_factory=Counter)
    refusals: Counter[int] = field(default_factory=Counter)


class Device(asyncio.Protocol):
    """One device over all its connections."""

    def __init__(self, fleet: "Fleet", device_id: str) -> None:
        self.fleet = fleet
        self.device_id = device_id
        self.epoch = 0
        self.seq = 0
        self.welcomed = False
        self._unacked = 0
        self._attempt = 0
        self._failures = 0
        self._ack_timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._head = b""
        self._open = False
        self._instance = UUID(int=fleet.rand.getrandbits(128), version=4)
        self._request = b""

    async def connect(self) -> None:
        """One try to open a socket; failing counts as a lost connection."""
        url, token = self.fleet.address(self.device_id)
        parts = urlsplit(url)
        self._attempt += 1
        after = f"&after={self.epoch}:{self.seq}" if self.epoch else ""
        query = f"device_id={quote(self.device_id)}{after}&instance={self._instance}&attempt={self._attempt}"
        target = f"{parts.path}?{parts.query + '&' if parts.query else ''}{query}"
        self._request = handshake(parts.netloc, target, token)
        self._reader, self._head, self._open, self.welcomed = FrameReader(), b"", False, False
        try:
            async with asyncio.timeout(HANDSHAKE_DEADLINE_S), self.fleet.gate:
                await asyncio.get_running_loop().create_connection(
                    lambda: self, parts.hostname or "", parts.port or 80, local_addr=self.fleet.source_address()
                )
        except (OSError, TimeoutError):
            self._come_back()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own, not a subclass
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._open:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            status = int(self._head[9:12])
            if status != 101:
                self.fleet.totals.refusals[status] += 1
                if self._transport is not None:
                    self._transport.abort()
                return
            self._open = True
            self.fleet.totals.connected += 1
            data, self._head = self._head[end + 4 :], b""
        for opcode, payload in self._reader.feed(data):
            if opcode == TEXT:
                if payload.startswith(_EVENT):
                    self._on_event(payload)
                else:
                    self._on_other(payload)
            elif opcode == PING:
                self._write(masked_frame(PONG, payload))
            elif opcode == CLOSE:
                self.fleet.totals.closes[int.from_bytes(payload[:2], "big")] += 1
                self._write(masked_frame(CLOSE, payload[:2]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._open:
            self.fleet.totals.connected -= 1
        if self.welcomed:
            self.fleet.totals.welcomed -= 1
        self._open = self.welcomed = False
        self._transport = None
        self._come_back()

    def _on_event(self, payload: bytes) -> None:
        seq = int(payload[len(_EVENT) : payload.index(b",", len(_EVENT))])
        if seq != self.seq + 1:
            self.fleet.totals.gaps += 1
        self.seq = max(seq, self.seq)
        fleet = self.fleet
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

    def _on_other(self, payload: bytes) -> None:
        frame = json.loads(payload)
        if frame["type"] == "welcome":
            epoch, _, seq = frame["position"].partition(":")
            if int(epoch) != self.epoch:
                self.epoch, self.seq = int(epoch), int(seq)
            self.welcomed, self._failures = True, 0
            self.fleet.totals.welcomed += 1
            if self.seq > frame["acked"]:
                self._unacked = 1
                self.ack()
        elif frame["type"] == "reset":
            self.fleet.totals.resets += 1
            epoch, _, seq = frame["position"].partition(":")
            self.epoch, self.seq = int(epoch), int(seq)

    def ack(self) -> None:
        """Ack everything shown so far."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        if self._unacked:
            self._unacked = 0
            self.fleet.totals.acks += 1
            self._write(masked_frame(TEXT, b'{"type":"ack","seq":%d}' % self.seq))

    def cut(self) -> None:
        """Break the connection, as a lost link does."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _come_back(self) -> None:
        if self.fleet.stopping:
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
    ) -> None:
        self.address = address
        self.options = options
        self.rand = rand
        self.loop = asyncio.get_running_loop()
        self.gate = asyncio.Semaphore(options.connects_at_once)
        self.history = History()
        self.latencies = Latencies()
        self.totals = Totals()
        self.stopping = False
        self.on_event: Callable[[str, bytes], None] | None = None
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
