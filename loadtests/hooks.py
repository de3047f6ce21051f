"""`python -m loadtests.hooks`: how soon a provider's call makes a row, and what finds a change of which no call told.

A whole Fleetwire between an emulated Graph, an emulated Drive and an S3, whose feeds poll every ten seconds, so that
what comes sooner came by a call. Three phases: calls as they come; calls while Redis is stopped, when the bus tells
nothing and the look at Postgres does; and calls that all get lost. Each time is from the moment the provider has the
file to the job's row, by one clock. Responses go to S3, and the device fetches some of them at the end. Exits with 0
only if every change made its row once, and in time.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

import asyncpg
import uvloop
from rich.console import Console
from rich.progress import Progress

from loadtests.cloud_site import CloudSite, running_cloud_site

__all__ = ["Phase", "Report", "run"]

RESULTS: Final = Path(__file__).parent / "results"
DEVICE: Final = "truck-7"
PROVIDERS: Final = ("graph", "drive", "s3")
LOST: Final = "calls lost"
CALLED_P99_S: Final = 1.0
# The look comes every second, a fifth more or less; then the provider is asked and the page recorded, as with a call.
LOOKED_MAX_S: Final = 1.2 + 2 * CALLED_P99_S
POLLED_MARGIN_S: Final = 0.1
_LATE_S: Final = 60.0


@dataclass(frozen=True)
class Phase:
    """Seconds from the write at the provider to the row; `within_s` is for the slowest, or for 99 of 100."""

    name: str
    provider: str
    changes: int
    rows: int
    p50_s: float
    p99_s: float
    max_s: float
    within_s: float
    held: bool


@dataclass(frozen=True)
class Report:
    """What was measured."""

    poll_s: float
    phases: list[Phase]

    @property
    def passed(self) -> bool:
        """Whether all of it held."""
        return all(phase.held for phase in self.phases)


class _Bench:
    def __init__(self, site: CloudSite, sql: asyncpg.Connection, progress: Progress, *, pause_s: float) -> None:
        self._site = site
        self._sql = sql
        self._progress = progress
        self._pause_s = pause_s
        self._rand = Random(7)
        self._number = 0

    async def measure(self, name: str, provider: str, changes: int, *, within_s: float, by_p99: bool) -> Phase:
        """One change after the other, each at a moment of its own."""
        task = self._progress.add_task(f"{name}, {provider}", total=changes)
        written: dict[str, float] = {}
        for _ in range(changes):
            self._number += 1
            file = f"load-{self._number}.noop"
            written[file] = await self._write(provider, f"Requests/{DEVICE}/{file}", call=name != LOST)
            self._progress.advance(task)
            await asyncio.sleep(self._pause_s * self._rand.uniform(0.5, 1.5))
        rows = await self._rows(list(written), within_s)
        took = sorted(at - written[file] for file, at in rows)
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))] if took else float("inf")
        judged = p99 if by_p99 else max(took, default=float("inf"))
        return Phase(
            name,
            provider,
            changes,
            len(took),
            round(took[len(took) // 2], 3) if took else float("inf"),
            round(p99, 3),
            round(max(took, default=float("inf")), 3),
            within_s,
            len(took) == changes and judged <= within_s,
        )

    async def _write(self, provider: str, path: str, *, call: bool) -> float:
        """The moment at which the provider has the file, and is about to call."""
        content = path.encode()
        if provider == "s3":
            await self._site.put_at_s3(path, content)
        at = time.time()
        if provider == "graph":
            self._site.graph.write(path, content)
        elif provider == "drive":
            self._site.put_at_drive(path, content)
        elif call:
            await self._site.call_about_s3(path)
        return at

    async def _rows(self, files: list[str], within_s: float) -> list[tuple[str, float]]:
        """(name, moment of the row) of every job that these files made, two for one that made two."""
        end = time.monotonic() + within_s + _LATE_S
        while True:
            rows = await self._sql.fetch(
                "SELECT name, extract(epoch FROM created_at)::double precision AS at FROM jobs WHERE name = ANY ($1)",
                files,
            )
            if len(rows) >= len(files) or time.monotonic() > end:
                return [(row["name"], row["at"]) for row in rows]
            await asyncio.sleep(0.1)


async def run(*, changes: int, lost: int, poll_s: float, pause_s: float, progress: Progress) -> Report:
    """All phases at both providers."""
    settings = {
        "FLEETWIRE_WATCHER_REMOTE_IDLE_S": str(poll_s),
        "FLEETWIRE_WATCHER_REMOTE_ACTIVE_S": str(poll_s),
        "FLEETWIRE_WATCHER_LISTING_S": str(poll_s),
        "FLEETWIRE_WORKER_NOOP": "1",
    }
    phases = []
    with tempfile.TemporaryDirectory(prefix="fleetwire-hooks-") as folder:
        async with running_cloud_site(Path(folder), placement="s3=1,local=0", with_s3=True, **settings) as site:
            await site.register(DEVICE)
            await site.until_subscribed()
            sql = await asyncpg.connect(site.machine.database_url)
            bench = _Bench(site, sql, progress, pause_s=pause_s)
            for provider in PROVIDERS:
                phases.append(
                    await bench.measure("called", provider, changes, within_s=CALLED_P99_S, by_p99=changes >= 100)
                )
            stopped = site.machine.pause("valkey")
            for provider in PROVIDERS:
                phases.append(await bench.measure("bus silent", provider, lost, within_s=LOOKED_MAX_S, by_p99=False))
            site.machine.resume(stopped)
            site.graph.subscriptions.manners.drop = 1.0
            site.drive.channels.faults.drop = 1.0
            within_s = poll_s * (1 + POLLED_MARGIN_S) + CALLED_P99_S
            for provider in PROVIDERS:
                phases.append(await bench.measure(LOST, provider, lost, within_s=within_s, by_p99=False))
            await sql.close()
            await _fetch_some(site)
    return Report(poll_s, phases)


async def _fetch_some(site: CloudSite) -> None:
    """Fetch the files of what came first, by the addresses that S3 gave for them."""
    for event in (await site.events(DEVICE))[:3]:
        for file in event["data"]["files"]:
            _, location = await site.fetch(DEVICE, file)
            if "X-Amz-Signature=" not in location:
                raise RuntimeError(f"{file['name']} did not come from S3")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=150, help="changes at each provider while calls come")
    parser.add_argument("--lost", type=int, default=20, help="changes in each of the other phases")
    parser.add_argument("--poll", type=float, default=10.0, help="seconds between polls")
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between changes, a half more or less")
    parser.add_argument("--json", type=Path, default=RESULTS / "hooks.json")
    given = parser.parse_args(arguments)
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        report = uvloop.run(
            run(changes=given.changes, lost=given.lost, poll_s=given.poll, pause_s=given.pause, progress=progress)
        )
    given.json.parent.mkdir(exist_ok=True)
    given.json.write_text(json.dumps(asdict(report) | {"passed": report.passed}, indent=2) + "\n")
    for phase in report.phases:
        said = (
            f"p50 {phase.p50_s:.3f} s, p99 {phase.p99_s:.3f} s, max {phase.max_s:.3f} s (within {phase.within_s:g} s)"
        )
        verdict = "held" if phase.held else "MISSED"
        console.print(f"{phase.name}, {phase.provider}: {phase.rows} rows of {phase.changes}: {said}: {verdict}")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
