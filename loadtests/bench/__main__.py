"""`make bench`: what events and idle devices cost beside the bare relay, then the whole path up to the recorded ack."""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.bench import whole_path
from loadtests.bench.hub_cost import POINTS, Idle, Result, measure, measure_idle
from loadtests.bench.peers.launch import BESIDE

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (500, 5_000, 18_000)


def main() -> int:
    """Measure, show, save."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=SIZES, help="sockets held, one or more numbers")
    parser.add_argument("--seconds", type=float, default=3, help="of each turn (default 3)")
    parser.add_argument("--turns", type=int, default=3, help="per server and load (default 3)")
    parser.add_argument("--idle-seconds", type=float, default=20, help="of watching idle devices; 0: not watched")
    parser.add_argument("--beside", nargs="+", choices=BESIDE, default=[], help="more servers, on the same work")
    parser.add_argument("--no-path", action="store_true", help="leave the whole path out")
    options = parser.parse_args()
    console = Console()
    console.width = max(console.width, 130)
    results: list[tuple[Result, ...]] = []
    idle: list[Idle] = []
    for devices in options.devices:
        with console.status(f"{devices:,} devices") as status:
            # Where a device has only some events a second, it acks most of them alone anyway.
            points = [point for point in POINTS if point.ack_every > 1 or point.rate >= 8 * devices]
            if devices != options.devices[0]:
                points = [point for point in points if point.mode != "notice"]  # its cost does not depend on how many
            for group in measure(devices, options.seconds, options.turns, points, options.beside):
                results.append(group)
                status.update(f"{devices:,} devices: {group[0].point} done")
            if options.idle_seconds > 0:
                status.update(f"{devices:,} idle devices")
                idle.append(measure_idle(devices, options.idle_seconds))
    console.print(cost_table(results))
    console.print(idle_table(idle))
    path: list[dict[str, Any]] = []
    if not options.no_path:
        with console.status("the whole path") as status:
            path = whole_path.measure(whole_path.Plan(), lambda said: status.update(f"the whole path: {said}"))
        console.print(whole_path.table(path))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(as_json(results, idle, path), indent=1) + "\n")
    console.print(f"saved to {file.relative_to(Path.cwd())}" if file.is_relative_to(Path.cwd()) else f"saved to {file}")
    lost = any(one.lost for group in results for one in group if one.server != "relay") or any(
        one["recorded"] != one["shown"] for one in path
    )
    return 1 if lost else 0


def as_json(results: Sequence[tuple[Result, ...]], idle: list[Idle], path: list[dict[str, Any]]) -> dict[str, Any]:
    """What is saved."""
    about = {"machine": platform.platform(), "python": platform.python_version()}
    return about | {
        "results": [one.as_json() for group in results for one in group],
        "idle": [one.as_json() for one in idle],
        "whole_path": path,
    }


def cost_table(results: Sequence[tuple[Result, ...]]) -> Table:
    """The ratios, a row for each server but the relay. The driver's cost shows that it is not what was measured."""
    table = Table(title="Server CPU per delivered event")
    for name in (
        "devices",
        "load",
        "acks an event",
        "server",
        "bare relay µs",
        "its µs",
        "ratio",
        "p50 ms",
        "p99 ms",
        "lost",
    ):
        table.add_column(name, justify="left" if name in ("load", "server") else "right")
    table.add_column("driver µs", justify="right", style="dim")
    for relay, *others in results:
        for one in others:
            table.add_row(
                f"{one.devices:,}",
                one.point,
                f"{one.acks / max(one.delivered, 1):.2f}",
                one.server,
                f"{relay.us_per_event:.1f}",
                f"{one.us_per_event:.1f}",
                f"{one.us_per_event / max(relay.us_per_event, 0.01):.2f}",
                f"{one.latency['p50_ms']:.2f}",
                f"{one.latency['p99_ms']:.2f}",
                str(one.lost),
                f"{one.driver_us_per_event:.1f}",
            )
    return table


def idle_table(idle: list[Idle]) -> Table:
    """What devices cost that only answer pings."""
    table = Table(title="Idle devices of a hub, pinged every 25 s")
    for name in ("devices", "KB resident each", "CPU µs/s each", "connects/s"):
        table.add_column(name, justify="right")
    for one in idle:
        table.add_row(
            f"{one.devices:,}",
            f"{one.resident_kb_per_device:.1f}",
            f"{one.cpu_us_per_s_per_device:.1f}",
            f"{one.connects_per_s:,}",
        )
    return table


if __name__ == "__main__":
    raise SystemExit(main())
