"""CPU per delivered event by the number of sockets held, like compared with like.

A device that gets an event every few seconds acks each one alone, where one of few devices gathers sixteen: so all
devices here ack each event, and acks per event are shown. All servers hold their devices at the same time and are given
the load in turns. The bare relay beside the hub shows what of a difference is the kernel's, whose sockets are as cold.
What the devices cost while nothing is sent is measured in the same run and shown apart; nothing is subtracted.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table

from loadtests.bench.devices import running_devices
from loadtests.bench.hub_cost import SERVERS
from loadtests.bench.peers.launch import Environments, start
from loadtests.bench.side import Point, Side, Turns
from loadtests.process import cpu_nanoseconds
from loadtests.stand import running_stand

__all__ = ["Cost", "measure", "rows"]

RESULTS: Final = Path(__file__).parents[1] / "results"
COLUMNS: Final = (
    *("events/s", "server", "devices", "acks an event", "µs an event", "to fewest", "turns", "p50 ms", "p99 ms"),
    *("lost", "idle ms/s"),
)
SETTLE_S: Final = 5.0


@dataclass(frozen=True)
class Cost:
    """What one server did with so many devices at one rate."""

    server: str
    devices: int
    rate: int
    us_per_event: float
    turns: tuple[float, ...]
    acks_per_event: float
    lost: int
    latency: dict[str, float]
    idle_ms_per_s: float

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


@contextmanager
def _sides(sizes: Sequence[int], servers: Sequence[str]) -> Iterator[list[tuple[int, Side]]]:
    with ExitStack() as stack:
        sides = []
        for devices in sizes:
            names = [f"bench-{number}" for number in range(devices)]
            for name in servers:
                stand = stack.enter_context(running_stand(durable=False))
                uvloop.run(stand.make_devices(names))
                server = stack.enter_context(start(name, stand, Environments(stand.folder), devices))
                driver = stack.enter_context(running_devices(stand, server.port, names, ack_every=1))
                driver.welcomed()
                sides.append((devices, Side(stand, server, driver, names)))
        yield sides


def measure(
    sizes: Sequence[int], rates: Sequence[int], *, seconds: float, turns: int, idle_s: float, servers: Sequence[str]
) -> Iterator[Cost]:
    """One for each server, number of devices and rate."""
    with _sides(sizes, servers) as sides:
        time.sleep(SETTLE_S)
        began, before = time.monotonic(), [cpu_nanoseconds(side.server.pid) for _, side in sides]
        time.sleep(idle_s)
        passed = max(time.monotonic() - began, 1e-3)
        idle = [
            round((cpu_nanoseconds(side.server.pid) - spent) / 1e6 / passed, 1)
            for (_, side), spent in zip(sides, before, strict=True)
        ]
        for rate in rates:
            point = Point(f"{rate}/s", "unicast", rate, ack_every=1)
            counted = [Turns() for _ in sides]
            for _, side in sides:
                side.take(point, seconds / 2, None)  # warms up
            for _ in range(turns):
                for (_, side), one in zip(sides, counted, strict=True):
                    side.take(point, seconds, one)
            for (devices, side), one, idle_ms in zip(sides, counted, idle, strict=True):
                yield Cost(
                    server=side.server.name,
                    devices=devices,
                    rate=rate,
                    us_per_event=one.cost,
                    turns=tuple(one.us_per_event),
                    acks_per_event=round(one.acks / max(one.delivered, 1), 2),
                    lost=one.lost,
                    latency=one.latency,
                    idle_ms_per_s=idle_ms,
                )


def rows(costs: Sequence[Cost]) -> list[list[str]]:
    """By rate and server, each number of devices beside the smallest."""
    found = []
    for cost in sorted(costs, key=lambda one: (one.rate, one.server, one.devices)):
        alike = [one for one in costs if (one.rate, one.server) == (cost.rate, cost.server)]
        fewest = min(alike, key=lambda one: one.devices)
        found.append(
            [
                f"{cost.rate:,}",
                cost.server,
                f"{cost.devices:,}",
                f"{cost.acks_per_event:.2f}",
                f"{cost.us_per_event:.1f}",
                f"{cost.us_per_event / max(fewest.us_per_event, 0.01):.2f}",
                " ".join(f"{turn:.1f}" for turn in cost.turns),
                f"{cost.latency['p50_ms']:.2f}",
                f"{cost.latency['p99_ms']:.2f}",
                str(cost.lost),
                f"{cost.idle_ms_per_s:.1f}",
            ]
        )
    return found


def main() -> int:
    """Measure, show, save. Exit status 1 when the hub lost an event."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.by_sockets", description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[500, 18_000], help="sockets held (500 18000)")
    parser.add_argument("--rates", type=int, nargs="+", default=[4_000, 20_000], help="events/s (4000 20000)")
    parser.add_argument("--seconds", type=float, default=3, help="of each turn (default 3)")
    parser.add_argument("--turns", type=int, default=4, help="per server, size and rate (default 4)")
    parser.add_argument("--idle-seconds", type=float, default=20, help="of watching the devices idle (default 20)")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    options = parser.parse_args()
    console = Console()
    console.width = max(console.width, 130)
    costs: list[Cost] = []
    with console.status("connecting") as status:
        for cost in measure(
            options.devices,
            options.rates,
            seconds=options.seconds,
            turns=options.turns,
            idle_s=options.idle_seconds,
            servers=options.servers,
        ):
            costs.append(cost)
            status.update(f"{cost.rate:,} events/s: done")
    table = Table(title="Server CPU per delivered event by sockets held, each event acked")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("server", "turns") else "right")
    for row in rows(costs):
        table.add_row(*row)
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"by-sockets-{time.strftime('%Y%m%d-%H%M%S')}.json"
    about = {"machine": platform.platform(), "python": platform.python_version()}
    file.write_text(json.dumps(about | {"costs": [cost.as_json() for cost in costs]}, indent=1) + "\n")
    console.print(f"saved to {file.relative_to(Path.cwd())}" if file.is_relative_to(Path.cwd()) else f"saved to {file}")
    return 1 if any(cost.lost for cost in costs if cost.server == "hub") else 0


if __name__ == "__main__":
    raise SystemExit(main())
