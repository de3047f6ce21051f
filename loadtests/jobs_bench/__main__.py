"""`python -m loadtests.jobs_bench`: no-op jobs, end to end, one worker process, beside PgQueuer and procrastinate.

All on one Postgres with synchronous_commit on and fsync on, one after the other in one run; jobs are queued while
others are worked on, and the senders run on the same cores. `ours.py` says what is done for each of our jobs,
`beside.py` how much less a peer does. Every job of ours is looked at afterwards: done, three changes of state, one
event. Prints tables, saves the figures, and exits with 0 only if the rates and the latency held that are stated here.
"""

import argparse
import asyncio
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadtests.bench.peers.environment import NotInstalled, install_python
from loadtests.bench.peers.report import put_between
from loadtests.driver.latency import Latencies
from loadtests.jobs_bench.beside import PEERS, Peer
from loadtests.jobs_bench.ours import DEVICES, Drained, Ours, Shape, running_worker
from loadtests.stand import Stand, running_stand

__all__ = ["ONE", "judge", "main", "shapes", "table_of"]

RESULTS: Final = Path(__file__).parents[1] / "results"
_REQUIREMENTS: Final = Path(__file__).parent / "requirements.txt"
_VERSIONS: Final = re.compile(r"^(?:pgqueuer|procrastinate|asyncpg|psycopg)==[^\s;\\]+", re.MULTILINE)
ONE: Final = "one at a time"
TENS: Final = "10 at a time"
HUNDREDS: Final = "500 at a time"
COLUMNS: Final = (
    "load", "side", "jobs", "jobs/s", "ours ÷ it", "worker µs", "Postgres µs", "begun p50 ms", "p99 ms"
)  # fmt: skip
MARKS: Final = ("<!-- jobs: begin -->", "<!-- jobs: end -->")
RATES: Final = {TENS: 1_000, HUNDREDS: 3_000}
BEGUN_P50_MS: Final = 5.0
# What a peer is given of the jobs that ours is: the slow ones would take minutes.
_PART: Final = {"pgqueuer": 0.5, "procrastinate": 0.1}


def shapes(scale: float) -> list[Shape]:
    """How jobs come."""

    def some(count: int) -> int:
        return max(20, round(count * scale))

    return [
        Shape(TENS, some(20_000), 10, 50, 100),
        Shape(HUNDREDS, some(40_000), 500, 500, 1000, ahead=4000),
        Shape("10 at a time, with log lines", some(10_000), 10, 50, 100, logged=True),
        Shape("10 at a time, response.json written", some(3_000), 10, 50, 100, ahead=500, written=True),
    ]


def main() -> int:
    """Measure, show, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.jobs_bench", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the usual number of jobs (default 1)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="none: --peers without a name")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    parser.add_argument("--docs", type=Path, help="folder whose performance.md gets the table")
    options = parser.parse_args()
    console = Console()
    console.width = max(console.width, 130)
    report = run(options.scale, options.peers, lambda what: console.print(f"[dim]{what}"))
    console.print(table_of(report))
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / f"jobs-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(report, indent=1) + "\n")
    if options.docs is not None:
        page = options.docs / "performance.md"
        page.write_text(put_between(page.read_text("utf-8"), markdown(report), MARKS), "utf-8")
    failures = judge(report)
    for failure in failures:
        console.print(f"[red]{failure}")
    console.print(f"saved to {file}")
    return 1 if failures else 0


def run(scale: float, peers: Sequence[str], show: Callable[[str], None]) -> dict[str, Any]:
    """All figures, as they are saved."""
    found: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        stand = stack.enter_context(running_stand())
        commit = asyncio.run(stand.query("SHOW synchronous_commit"))[0][0]
        asyncio.run(stand.make_devices([f"d{number}" for number in range(DEVICES)]))
        others: list[Peer] = []
        if peers:
            show("installing the peers")
            try:
                python = install_python(stand.folder / "peers", _REQUIREMENTS)
                others = [Peer(name, python, stand) for name in peers]
            except NotInstalled as error:
                missing = dict.fromkeys(peers, str(error))
        for peer in others:
            asyncio.run(peer.prepare())
        count = max(10, round(200 * scale))
        show(ONE)
        found.append(_row("fleetwire", ONE, *asyncio.run(_one_by_one(stand, count))))
        found += [_row(peer.name, ONE, *peer.one_by_one(count)) for peer in others]
        for shape in shapes(scale):
            show(shape.name)
            found.append(_row("fleetwire", shape.name, asyncio.run(_drain(stand, shape))))
            for peer in others if shape.name in RATES else ():
                show(f"{shape.name}: {peer.name}")
                found.append(_row(peer.name, shape.name, peer.drain(_part_of(shape, peer.name))))
    return {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "synchronous_commit": commit,
        "devices": DEVICES,
        "scale": scale,
        "versions": _VERSIONS.findall(_REQUIREMENTS.read_text()),
        "missing": missing,
        "rows": found,
    }


async def _drain(stand: Stand, shape: Shape) -> Drained:
    with running_worker(stand, **shape.settings) as worker:
        async with Ours.on(stand) as ours:
            return await ours.drain(shape, worker)


async def _one_by_one(stand: Stand, count: int) -> tuple[Drained, Latencies]:
    with running_worker(stand) as worker:
        async with Ours.on(stand) as ours:
            await ours.one_by_one(5, worker)  # connections and statements are met for the first time
            return await ours.one_by_one(count, worker)


def _part_of(shape: Shape, peer: str) -> Shape:
    jobs = max(shape.batch, round(shape.jobs * _PART[peer]))
    return Shape(shape.name, jobs, shape.batch, shape.claim, shape.concurrency, ahead=shape.ahead)


def _row(side: str, load: str, drained: Drained, begun: Latencies | None = None) -> dict[str, Any]:
    waited = (
        {}
        if begun is None
        else {"begun_p50_ms": round(begun.percentile(50), 2), "begun_p99_ms": round(begun.percentile(99), 2)}
    )
    return {"side": side, "load": load, **drained.as_json(), **waited}


def judge(report: dict[str, Any]) -> list[str]:
    """What did not hold."""
    failures = [f"{name} was not measured: {why}" for name, why in report["missing"].items()]
    if report["synchronous_commit"] != "on":
        failures.append(f"synchronous_commit is {report['synchronous_commit']}")
    for row in report["rows"]:
        failures += [f"{row['side']}, {row['load']}: {wrong}" for wrong in row["wrong"]]
        if row["side"] != "fleetwire":
            continue
        if (least := RATES.get(row["load"])) is not None and row["jobs_per_s"] < least:
            failures.append(f"{row['load']}: {row['jobs_per_s']:,} jobs/s, not {least:,}")
        if row.get("begun_p50_ms", 0.0) > BEGUN_P50_MS:
            failures.append(f"begun after {row['begun_p50_ms']} ms (p50), not {BEGUN_P50_MS:g}")
    return failures


def cells(report: dict[str, Any]) -> list[list[str]]:
    """A row for each side and load, as it is shown."""
    ours = {row["load"]: row for row in report["rows"] if row["side"] == "fleetwire"}
    found = []
    for row in report["rows"]:
        ratio = ours[row["load"]]["jobs_per_s"] / max(row["jobs_per_s"], 1)
        found.append(
            [
                row["load"],
                row["side"],
                f"{row['jobs']:,}",
                f"{row['jobs_per_s']:,}",
                "" if row["side"] == "fleetwire" else f"{ratio:.2f}",
                f"{row['worker_cpu_us']:,.0f}",
                f"{row['postgres_cpu_us']:,.0f}",
                f"{row['begun_p50_ms']:.1f}" if "begun_p50_ms" in row else "",
                f"{row['begun_p99_ms']:.1f}" if "begun_p99_ms" in row else "",
            ]
        )
    return found


def table_of(report: dict[str, Any]) -> Table:
    """For the terminal."""
    table = Table(title=f"No-op jobs, one worker process, synchronous_commit {report['synchronous_commit']}")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:2] else "right")
    for row in cells(report):
        table.add_row(*row)
    return table


def markdown(report: dict[str, Any]) -> str:
    """For the page."""
    head = [f"| {' | '.join(COLUMNS)} |", "| --- | --- |" + " --: |" * (len(COLUMNS) - 2)]
    lines = [f"| {' | '.join(row)} |" for row in cells(report)]
    said = f"{report['date']}, {report['machine']}, Python {report['python']}, {report['devices']} devices"
    return "\n".join([*head, *lines, "", f"{said}; {', '.join(report['versions'])}."])


if __name__ == "__main__":
    raise SystemExit(main())
