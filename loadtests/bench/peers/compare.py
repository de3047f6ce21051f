"""The comparison: each server in turn, the same devices, the same events, the same acks, by the same driver.

How a server is measured, and what becomes of one that falls behind, stands in `side.py`. A load that is far more than
its core can carry is not tried, and that is said.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import uvloop

from loadtests.bench.devices import running_devices
from loadtests.bench.peers.launch import SERVERS, Environments, Running, start
from loadtests.bench.side import Point, Side, Turns
from loadtests.process import resident_bytes
from loadtests.stand import Stand, running_stand

__all__ = ["POINTS", "Figures", "PointFigures", "beyond", "compare"]

POINTS: Final = (
    Point("one device at a time, 4 k/s", "unicast", 4_000),
    Point("one device at a time, 20 k/s", "unicast", 20_000),
    Point("all devices at once, 5 k/s in all", "all", 5_000),
)


@dataclass(frozen=True)
class PointFigures:
    """What one server did at one point; `us_per_event` is the median of `turns`."""

    load: str
    us_per_event: float
    turns: tuple[float, ...]
    delivered: int
    acks: int
    lost: int
    caught_up_s: float
    latency: dict[str, float]


@dataclass
class Figures:
    """What is known of one server with so many devices. `missing` says why there is nothing."""

    server: str
    devices: int
    resident_kb_per_device: float = 0.0
    connects_per_s: int = 0
    points: dict[str, PointFigures] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    missing: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def compare(
    devices: int, seconds: float, turns: int, servers: Sequence[str] = SERVERS, *, show: Callable[[str], None]
) -> Iterator[Figures]:
    """Figures of each server, one by one."""
    names = [f"bench-{number}" for number in range(devices)]
    with running_stand(durable=False) as stand:
        uvloop.run(stand.make_devices(names))
        environments = Environments(stand.folder)
        for server in servers:
            show(f"{server}, {devices:,} devices")
            try:
                with start(server, stand, environments, devices) as running:
                    found = _measure(stand, running, names, seconds, turns, show)
            except RuntimeError as failed:
                # Not installed, not listening, not taking so many devices: the others are measured all the same.
                found = Figures(server, devices, missing=str(failed))
            yield found


def _measure(
    stand: Stand, server: Running, names: list[str], seconds: float, turns: int, show: Callable[[str], None]
) -> Figures:
    uvloop.run(stand.pretend_heads(0))
    found = Figures(server.name, len(names))
    time.sleep(0.5)
    empty = resident_bytes(server.pid)
    with running_devices(stand, server.port, names, dialect=server.dialect) as devices:
        found.connects_per_s = round(len(names) / devices.welcomed())
        time.sleep(1.0)
        found.resident_kb_per_device = round((resident_bytes(server.pid) - empty) / 1024 / len(names), 1)
        side = Side(stand, server, devices, names)
        for point in POINTS:
            if reason := beyond(found, point):
                found.skipped[point.name] = reason
                continue
            show(f"{server.name}, {len(names):,} devices: {point.name}")
            found.points[point.name] = _point(side, point, seconds, turns)
    return found


def beyond(found: Figures, point: Point) -> str | None:
    """Why this load is not tried, judged by those before: a core has only a million microseconds a second."""
    known = list(found.points.values())
    if any(one.lost for one in known):
        return "what was sent before had not all come"  # and would be counted here
    if point.mode == "unicast" and known and (cores := known[-1].us_per_event * point.rate / 1e6 * 0.6) > 1:
        return f"would need more than {cores:.1f} cores"
    return None


def _point(side: Side, point: Point, seconds: float, turns: int) -> PointFigures:
    counted = Turns()
    side.take(point, seconds / 4, None)  # warms up
    while len(counted.us_per_event) < turns and not counted.lost:
        side.take(point, seconds, counted)
    return PointFigures(
        load=point.name,
        us_per_event=counted.cost,
        turns=tuple(counted.us_per_event),
        delivered=counted.delivered,
        acks=counted.acks,
        lost=counted.lost,
        caught_up_s=counted.caught_up_s,
        latency=counted.latency,
    )
