"""CPU per delivered event and per idle device: the hub beside the bare relay, same devices, messages and acks.

How one is measured stands in `side.py`. Nothing of the hub is off except the sweep, which would find that what is only
published is not in the log; for idle devices it is on, too. Both servers hold their devices at the same time and are
given the load in turns, since a machine is not the same from one minute to the next.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import uvloop

from loadtests.bench.devices import running_devices
from loadtests.bench.peers.launch import Environments, start
from loadtests.bench.side import Point, Side, Turns
from loadtests.process import cpu_nanoseconds, resident_bytes
from loadtests.stand import running_stand

__all__ = ["POINTS", "SERVERS", "Idle", "Result", "measure", "measure_idle", "result"]

SERVERS: Final = ("relay", "hub")
HEARTBEAT_S: Final = 25

POINTS: Final = (
    Point("one device at a time, 4 k/s", "unicast", 4_000),
    Point("one device at a time, 4 k/s, each event acked", "unicast", 4_000, ack_every=1),
    Point("one device at a time, 20 k/s", "unicast", 20_000),
    Point("one device at a time, 20 k/s, each event acked", "unicast", 20_000, ack_every=1),
    Point("all devices at once, 50 k/s in all", "all", 50_000),
    Point("a notice to all devices, 50 k/s in all", "notice", 50_000),
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


@contextmanager
def _sides(devices: int, ack_every: int, servers: Sequence[str] = SERVERS) -> Iterator[list[Side]]:
    names = [f"bench-{number}" for number in range(devices)]
    with ExitStack() as stack:
        sides = []
        for name in servers:
            stand = stack.enter_context(running_stand(durable=False))
            uvloop.run(stand.make_devices(names))
            server = stack.enter_context(start(name, stand, Environments(stand.folder), devices))
            driver = stack.enter_context(running_devices(stand, server.port, names, ack_every=ack_every))
            driver.welcomed()
            sides.append(Side(stand, server, driver, names))
        yield sides


def result(server: str, devices: int, point: Point, turns: Turns) -> Result:
    """Of all turns."""
    return Result(
        server=server,
        devices=devices,
        point=point.name,
        us_per_event=turns.cost,
        turns=tuple(turns.us_per_event),
        delivered=turns.delivered,
        acks=turns.acks,
        lost=turns.lost,
        latency=turns.latency,
        driver_us_per_event=round(turns.driver_s / max(turns.delivered, 1) * 1e6, 2),
    )


def measure(
    devices: int, seconds: float, turns: int, points: Sequence[Point] = POINTS, beside: Sequence[str] = ()
) -> Iterator[tuple[Result, ...]]:
    """The relay's and the hub's result at each point, then those of what is measured beside them."""
    for ack_every in dict.fromkeys(point.ack_every for point in points):
        with _sides(devices, ack_every, (*SERVERS, *beside)) as sides:
            for point in (point for point in points if point.ack_every == ack_every):
                counted = [Turns() for _ in sides]
                for side in sides:
                    side.take(point, seconds / 2, None)  # warms up
                for _ in range(turns):
                    for side, one in zip(sides, counted, strict=True):
                        side.take(point, seconds, one)
                yield tuple(
                    result(side.server.name, devices, point, one) for side, one in zip(sides, counted, strict=True)
                )


def measure_idle(devices: int, seconds: float) -> Idle:
    """A hub whose devices only answer pings, with everything on. Any stretch is typical: first pings are spread."""
    names = [f"bench-{number}" for number in range(devices)]
    settings = {"FLEETWIRE_HUB_HEARTBEAT_S": str(HEARTBEAT_S), "FLEETWIRE_HUB_PONG_S": "5"}
    with running_stand(durable=False) as stand, stand.hub(capacity=devices + 10, **settings) as hub:
        uvloop.run(stand.make_devices(names))
        time.sleep(1.0)
        empty = resident_bytes(hub.pid)
        with running_devices(stand, hub.port, names) as driver:
            took = driver.welcomed()
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
