"""Ours beside what else one would build this with: the bare relay, the hub, Socket.IO, python-socketio and Channels.

Each server does the same work on the same Valkey, one after the other; the peers are installed for the run and removed
afterwards. Prints tables with ratios to the relay, saves the figures as JSON, and writes them into docs/ if asked to.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadtests.bench.peers.compare import compare
from loadtests.bench.peers.environment import pinned_versions
from loadtests.bench.peers.launch import SERVERS
from loadtests.bench.peers.report import (
    COST_COLUMNS,
    SOCKET_COLUMNS,
    chart,
    cost_rows,
    markdown,
    put_between,
    socket_rows,
)

ROOT: Final = Path(__file__).parents[3]
RESULTS: Final = ROOT / "loadtests" / "results"
PAGE: Final = "performance.md"
CHART: Final = "performance.svg"


def main() -> int:
    """Measure, show, save. Exit status 1 when the hub lost an event or could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.peers", description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[500], help="how many sockets, one run for each")
    parser.add_argument("--seconds", type=float, default=4, help="of each turn (default 4)")
    parser.add_argument("--turns", type=int, default=3, help="per server and load (default 3)")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    parser.add_argument("--docs", type=Path, help=f"folder whose {PAGE} gets the tables, beside {CHART}")
    parser.add_argument("--from", type=Path, dest="saved", help="measure nothing: show this file of figures")
    options = parser.parse_args()
    console = Console()
    console.width = max(console.width, 120)
    if options.saved is not None:
        run = json.loads(options.saved.read_text())
    else:
        run = _measure(options, console)
        options.results.mkdir(parents=True, exist_ok=True)
        file = options.results / f"peers-{time.strftime('%Y%m%d-%H%M%S')}.json"
        file.write_text(json.dumps(run, indent=1) + "\n")
        console.print(f"saved to {file}")
    for size in run["sizes"]:
        servers = size["servers"]
        title = f"Server CPU per delivered event, {size['devices']:,} devices"
        console.print(_table(title, COST_COLUMNS, cost_rows(servers)))
        console.print(_table("What a socket costs", SOCKET_COLUMNS, socket_rows(servers)))
    if options.docs is not None:
        _write_docs(options.docs, run)
        console.print(f"written to {options.docs / PAGE} and {options.docs / CHART}")
    hubs = [server for size in run["sizes"] for server in size["servers"] if server["server"] == "hub"]
    return 1 if any(hub["missing"] or any(point["lost"] for point in hub["points"].values()) for hub in hubs) else 0


def _measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    def show(said: str) -> None:
        console.print(f"[dim]{said}")

    found = []
    for devices in options.devices:
        figures = compare(devices, options.seconds, options.turns, options.servers, show=show)
        found.append({"devices": devices, "servers": [server.as_json() for server in figures]})
    return {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "seconds": options.seconds,
        "turns": options.turns,
        "date": time.strftime("%Y-%m-%d"),
        "versions": dict(pinned_versions()),
        "sizes": found,
    }


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("load", "server") else "right")
    for number, row in enumerate(rows):
        table.add_row(
            *row,
            end_section=headings[0] == "load" and rows[number + 1 : number + 2] != [] and rows[number + 1][0] != row[0],
        )
    return table


def _write_docs(folder: Path, run: dict[str, Any]) -> None:
    page = folder / PAGE
    parts = [f"![Server CPU per delivered event]({CHART})"]
    for size in run["sizes"]:
        parts.append(f"### {size['devices']:,} devices\n\n{markdown(size['servers'])}".strip())
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    how = f"the median of {run['turns']} turns of {run['seconds']:g} s"
    parts.append(f"{run['date']}, {run['machine']}, Python {run['python']}; {how}; {versions}.")
    page.write_text(put_between(page.read_text("utf-8"), "\n\n".join(parts)), "utf-8")
    (folder / CHART).write_text(chart(run["sizes"][0]["servers"]), "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
