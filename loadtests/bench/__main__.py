"""`make bench`: prints the table, saves the figures as JSON."""

import argparse
import json
import platform
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtests.bench.hub_cost import POINTS, Result, measure

RESULTS = Path(__file__).parents[1] / "results"


def main() -> int:
    """Measure, show, save."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--devices", type=int, default=500, help="sockets held (default 500)")
    parser.add_argument("--seconds", type=float, default=8, help="per server and load (default 8)")
    options = parser.parse_args()
    console = Console()
    console.width = max(console.width, 130)
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting servers", total=2 * len(POINTS))
        for result in measure(options.devices, options.seconds):
            results.append(result)
            progress.update(task, advance=1, description=f"{result.server}: {result.point}")
    console.print(_table(results, options.devices))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    about = {"machine": platform.platform(), "python": platform.python_version(), "devices": options.devices}
    file.write_text(json.dumps(about | {"results": [result.as_json() for result in results]}, indent=1) + "\n")
    console.print(f"saved to {file.relative_to(Path.cwd())}" if file.is_relative_to(Path.cwd()) else f"saved to {file}")
    return 1 if any(result.lost for result in results if result.server == "hub") else 0


def _table(results: list[Result], devices: int) -> Table:
    table = Table(title=f"Server CPU per delivered event, {devices} devices")
    for name in ("load", "bare relay µs", "hub µs", "ratio", "hub p50 ms", "hub p99 ms", "hub KB a device", "lost"):
        table.add_column(name, justify="left" if name == "load" else "right")
    by_point = {(result.server, result.point): result for result in results}
    for point in POINTS:
        relay, hub = by_point["relay", point.name], by_point["hub", point.name]
        table.add_row(
            point.name,
            f"{relay.us_per_event:.1f}",
            f"{hub.us_per_event:.1f}",
            f"{hub.us_per_event / max(relay.us_per_event, 0.01):.2f}",
            f"{hub.latency['p50_ms']:.2f}",
            f"{hub.latency['p99_ms']:.2f}",
            f"{hub.resident_kb_per_device:.0f}",
            str(hub.lost),
        )
    return table


if __name__ == "__main__":
    raise SystemExit(main())
