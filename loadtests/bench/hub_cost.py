"""CPU per delivered event and per idle device: the hub beside the bare relay, same devices, messages and acks.

What is measured is the server process alone (user and system time) while numbered messages are published straight to
the bus; the head of every device's log is set ahead, so that acks are recorded as always. Nothing of the hub is off
except the sweep, which would find those events missing from the log; for idle devices it is on, too. Both servers
hold their devices at the same time and are given the load in turns, since a machine is not the same from one minute to
the next.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import uvloop

from infra.onebox.spawn import launch_arguments
from loadtests.bench.peers.launch import Environments, Running, build, start
from loadtests.process import cpu_nanoseconds, resident_bytes, start_python
from loadtests.stand import Stand, running_stand

__all__ = ["POINTS", "SERVERS", "Idle", "Point", "Result", "measure", "measure_idle"]

SERVERS: Final = ("relay", "hub")
ACK_MS: Final = 500
CONNECTS_AT_ONCE: Final = 200
HEARTBEAT_S: Final = 25
_HEAD: Final = 10**12
_PAYLOAD: Final = 60
_CATCH_UP_S: Final = 30.0
_SETTLE_S: Final = 0.2


@dataclass(frozen=True)
class Point:
    """One load: `mode` unicast is one device at a time, `all` every device at once; `rate` is events per second."""

    name: str
    mode: str
    rate: int
    ack_every: int = 16


POINTS: Final = (
    Point("one device at a time, 4 k/s", "unicast", 4_000),
    Point("one device at a time, 4 k/s, each event acked", "unicast", 4_000, ack_every=1),
    Point("one device at a time, 20 k/s", "unicast", 20_000),
    Point("all devices at once, 50 k/s in all", "all", 50_000),
)


@dataclass(frozen=True)
class Result:
    """What one server did at one point: the median of its turns."""

    server: str
    devices: int
    point: str
    us_per_event: float
    turns: tuple[float, ...]
    delivered: int
    acks: int
    lost: int
    latency: dict[str, float]
    driver_us_per_event: float

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


@dataclass(frozen=True)
class Idle:
    """What devices cost that only answer pings."""

    server: str
    devices: int
    resident_kb_per_device: float
    cpu_us_per_s_per_device: float
    connects_per_s: int

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


class _Driver:
    """The devices of one server, in a process of their own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, order: str) -> dict[str, Any]:
        """One order, one answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(order)
        self._process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        """The next answer."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError("the devices' process has ended")
        answer: dict[str, Any] = json.loads(said)
        return answer

    def wait_for(self, events: int) -> None:
        """Until so many events have come; what is lost is judged later."""
        end = time.monotonic() + _CATCH_UP_S
        while self.ask("count\n")["events"] < events and time.monotonic() < end:
            time.sleep(0.02)


@contextmanager
def _driver(stand: Stand, server: Running, names: Sequence[str], ack_every: int) -> Iterator[_Driver]:
    arguments = [str(server.port), str(ack_every), str(ACK_MS), str(CONNECTS_AT_ONCE)]
    with (stand.folder / "devices.log").open("ab") as log:
        process = subprocess.Popen(
            launch_arguments([str(build("devices", stand.folder)), *arguments]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("".join(f"{name} {stand.token(name)}\n" for name in names) + "\n")
        process.stdin.flush()
        yield _Driver(process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class _Side:
    """One server with its own Postgres and Valkey, its devices connected, and what was counted of it."""

    def __init__(self, stand: Stand, server: Running, driver: _Driver, names: Sequence[str]) -> None:
        self.stand = stand
        self.server = server
        self.driver = driver
        self._names = names
        self._next_seq = 1
        self.turns: list[float] = []
        self.delivered = self.acks = self.lost = 0
        self.driver_s = 0.0
        self.latency: dict[str, float] = {}

    def turn(self, point: Point, seconds: float, *, counts: bool) -> None:
        """Publish, measure in the middle of it, and wait until everything has arrived."""
        self.driver.ask("report\n")
        sender = self._start_sender(point, seconds)
        self.driver.wait_for(1)
        time.sleep(ACK_MS / 1000 + _SETTLE_S)  # gathered acks come from now on
        first, before = self._look()
        time.sleep(seconds)
        last, after = self._look()
        sent = self._sent_by(sender, seconds)
        self.driver.wait_for(sent)
        time.sleep(ACK_MS / 1000 + _SETTLE_S)
        seen = self.driver.ask("report\n")
        self._next_seq += sent // len(self._names)
        self.lost += sent - seen["events"]
        if counts:
            self.turns.append(round((after - before) / 1e3 / max(last - first, 1), 2))
            self.delivered += seen["events"]
            self.acks += seen["acks"]
            self.driver_s += seen["cpu_s"]
            self.latency = seen["latency"]

    def result(self, point: Point) -> Result:
        """Of all turns."""
        return Result(
            server=self.server.name,
            devices=len(self._names),
            point=point.name,
            us_per_event=round(median(self.turns), 2),
            turns=tuple(self.turns),
            delivered=self.delivered,
            acks=self.acks,
            lost=self.lost,
            latency=self.latency,
            driver_us_per_event=round(self.driver_s / max(self.delivered, 1) * 1e6, 2),
        )

    def _look(self) -> tuple[int, int]:
        return self.driver.ask("count\n")["events"], cpu_nanoseconds(self.server.pid)

    def _start_sender(self, point: Point, seconds: float) -> "subprocess.Popen[str]":
        each = len(self._names) if point.mode == "all" else 1
        orders = {
            "redis_url": self.stand.valkey.url,
            "devices": json.dumps(self._names),
            "rate": point.rate / each,
            "seconds": seconds + ACK_MS / 1000 + 2 * _SETTLE_S,
            "mode": point.mode,
            "payload": _PAYLOAD,
            "first_seq": self._next_seq,
        }
        with (self.stand.folder / "sender.log").open("ab") as log:
            sender = start_python("loadtests.bench.sender", log=log)
        assert sender.stdin is not None
        sender.stdin.write(json.dumps(orders) + "\n")
        sender.stdin.flush()
        return sender

    def _sent_by(self, sender: "subprocess.Popen[str]", seconds: float) -> int:
        said, _ = sender.communicate(timeout=seconds + 120)
        if sender.returncode:
            raise RuntimeError(f"the sender failed:\n{(self.stand.folder / 'sender.log').read_text()[-2000:]}")
        return int(json.loads(said)["sent"])


def _connected(server: Running, driver: _Driver, devices: int) -> float:
    welcomed = driver.read()
    if not welcomed["all"]:
        raise RuntimeError(f"{server.name}: only {welcomed['welcomed']} of {devices} devices were welcomed")
    return float(welcomed["seconds"])


@contextmanager
def _sides(devices: int, ack_every: int) -> Iterator[list[_Side]]:
    names = [f"bench-{number}" for number in range(devices)]
    with ExitStack() as stack:
        sides = []
        for name in SERVERS:
            stand = stack.enter_context(running_stand(durable=False))
            uvloop.run(stand.make_devices(names))
            server = stack.enter_context(start(name, stand, Environments(stand.folder), devices))
            driver = stack.enter_context(_driver(stand, server, names, ack_every))
            _connected(server, driver, devices)
            uvloop.run(stand.pretend_heads(_HEAD))
            sides.append(_Side(stand, server, driver, names))
        yield sides


def measure(
    devices: int, seconds: float, turns: int, points: Sequence[Point] = POINTS
) -> Iterator[tuple[Result, Result]]:
    """The relay's and the hub's result at each point."""
    for ack_every in sorted({point.ack_every for point in points}, reverse=True):
        with _sides(devices, ack_every) as sides:
            for point in (point for point in points if point.ack_every == ack_every):
                for number in range(turns + 1):
                    for side in sides:
                        # The first one warms up.
                        side.turn(point, seconds if number else seconds / 2, counts=number > 0)
                relay, hub = (side.result(point) for side in sides)
                yield relay, hub
                for side in sides:
                    side.turns, side.delivered, side.acks, side.lost, side.driver_s = [], 0, 0, 0, 0.0


def measure_idle(devices: int, seconds: float) -> Idle:
    """A hub whose devices only answer pings, with everything on. Any stretch is typical: first pings are spread."""
    names = [f"bench-{number}" for number in range(devices)]
    settings = {"FLEETWIRE_HUB_HEARTBEAT_S": str(HEARTBEAT_S), "FLEETWIRE_HUB_PONG_S": "5"}
    with running_stand(durable=False) as stand, stand.hub(capacity=devices + 10, **settings) as hub:
        uvloop.run(stand.make_devices(names))
        time.sleep(1.0)
        empty = resident_bytes(hub.pid)
        server = Running("hub", hub.pid, hub.port)
        with _driver(stand, server, names, 16) as driver:
            took = _connected(server, driver, devices)
            time.sleep(3.0)
            resident = resident_bytes(hub.pid) - empty
            began, before = time.monotonic(), cpu_nanoseconds(hub.pid)
            time.sleep(seconds)
            spent, passed = cpu_nanoseconds(hub.pid) - before, time.monotonic() - began
    return Idle(
        server="hub",
        devices=devices,
        resident_kb_per_device=round(resident / 1024 / devices, 1),
        cpu_us_per_s_per_device=round(spent / 1e3 / passed / devices, 1),
        connects_per_s=round(devices / max(took, 1e-3)),
    )
