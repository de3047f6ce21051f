"""Faults under jobs with real processes: `python -m loadtests.job_faults [--small] [--only TEXT]`.

Workers on servers of their own, and a steady load of jobs, of which most are ordinary, some always fail and a few kill
their process. Under it, one after the other: Postgres restarted and killed, its backends killed, no connection left,
pools exhausted, Redis killed, stopped and flushed, hints lost, workers killed at every step of a response and stopped
past their leases, and, with hints by RabbitMQ, that killed and stopped. Every accepted job must end done or dead, once,
with one event and, when done, one response that is as told; and five seconds after each fault jobs are done at the old
rate again.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table

from loadtests.job_faults.faults import FAULTS, Fault, Struck
from loadtests.job_faults.judge import Verdict, judge
from loadtests.job_faults.scene import Load, Scene, running_scene
from loadtests.rabbit_server import RABBIT_MISSING, server_script
from loadtests.run_folder import run_folder
from shared.store.errors import StoreError

__all__ = ["main"]

_RESULTS: Final = Path(__file__).parents[1] / "results"
_END_S: Final = 90.0


async def _ended(scene: Scene, load: Load) -> None:
    """Return once all have ended, or after a while: then it is said who has not."""
    end = time.monotonic() + _END_S
    left = 1
    while left and time.monotonic() < end:
        await asyncio.sleep(0.1)
        try:
            rows = await scene.pool.fetch(
                "SELECT count(*) FROM jobs WHERE device_id = ANY($1) AND current_status NOT IN ('done', 'dead')",
                load.devices,
            )
        except StoreError:
            continue
        left = rows[0][0]


async def _play(scene: Scene, fault: Fault, number: int, given: argparse.Namespace) -> Verdict:
    load = Load(scene, f"f{number:02d}", given.rate)
    stop = asyncio.Event()
    loading = asyncio.create_task(load.run(stop))
    await asyncio.sleep(given.before)
    struck = Struck(scene, load, given.seconds, given.lease)
    began = time.time()
    await fault.strike(struck)
    over = time.time()
    await asyncio.sleep(given.after)
    until = time.time()
    stop.set()
    await loading
    await _ended(scene, load)
    times = None if given.small else (began, over, until)
    return await judge(scene.pool, scene.cloud, load, fault=fault.name, times=struck.times, clock=times)


async def _run(faults: Sequence[Fault], given: argparse.Namespace, console: Console) -> list[Verdict]:
    """By one set of servers for each way that hints go."""
    verdicts: list[Verdict] = []
    rand = Random(given.seed)
    settings: dict[str, Any] = {"workers": given.workers, "lease_s": given.lease, "rand": rand}
    if given.small:
        settings |= {"durable": False, "FLEETWIRE_WORKER_MAX_ATTEMPTS": "4", "FLEETWIRE_WORKER_RETRY_CAP_S": "0.2"}
    for rabbit in (False, True):
        these = [fault for fault in faults if fault.rabbit is rabbit]
        if not these:
            continue
        if rabbit and server_script() is None:
            console.print(f"left out, {len(these)} faults: {RABBIT_MISSING}")
            continue
        with run_folder("fleetwire-job-faults-") as folder:
            async with running_scene(folder, with_rabbit=rabbit, **settings) as scene:
                for fault in these:
                    verdict = await _play(scene, fault, len(verdicts) + 1, given)
                    verdicts.append(verdict)
                    said = "; ".join(verdict.problems) or "held"
                    where = f"{len(verdicts):2}/{len(faults)} {fault.name}"
                    console.print(f"{where}: {verdict.jobs} jobs, {said}", highlight=False)
    return verdicts


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="what failed under jobs, and what came of them")
    for name in ("fault", "times", "jobs", "done", "dead", "tried again", "jobs/s before", "at worst", "back after s",
                 "slowest s", "problems"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("fault", "problems") else "right")
    for one in verdicts:
        back = "never" if one.back_after_s is None else f"{one.back_after_s:.1f}"
        cells = (one.times, one.jobs, one.done, one.dead, one.more_than_one_attempt, one.before_per_s, one.least_per_s,
                 back, one.slowest_s)  # fmt: skip
        table.add_row(one.fault, *map(str, cells), "\n".join(one.problems) or "none")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Play them, show the table, save the figures."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.job_faults", description=__doc__)
    add = parser.add_argument
    add("--workers", type=int, default=3)
    add("--rate", type=float, default=40.0, help="jobs a second")
    add("--seconds", type=float, default=6.0, help="how long a fault lasts, about")
    add("--before", type=float, default=4.0, help="seconds of load before the fault")
    add("--after", type=float, default=7.0, help="seconds of load after it")
    add("--lease", type=float, default=4.0, help="seconds of a job's lease")
    add("--seed", type=int, default=1)
    add("--only", default="", help="faults with this in their name")
    add("--small", action="store_true", help="one fault, briefly, and not how soon it is over")
    given = parser.parse_args(arguments)
    if given.small:
        given.workers, given.rate, given.seconds, given.lease = 2, 30.0, 0.3, 1.0
        given.before, given.after = 0.3, 0.3
    faults = [one for one in FAULTS if given.only in one.name and (one.small or not given.small)]
    console = Console(width=180 if not Console().is_terminal else None)
    began = time.monotonic()
    verdicts = uvloop.run(_run(faults, given, console))
    console.print(_table(verdicts))
    held = not any(one.problems for one in verdicts)
    figures = {"seconds": round(time.monotonic() - began), "faults": [asdict(one) for one in verdicts]}
    where = ""
    if not given.small:
        _RESULTS.mkdir(exist_ok=True)
        file = _RESULTS / f"job_faults-{time.strftime('%Y%m%d-%H%M%S')}.json"
        file.write_text(json.dumps(figures | {"options": vars(given)}, indent=1) + "\n")
        where = f", saved to {file}"
    console.print(f"{'[green]passed' if held else '[red]FAILED'}[/]{where}")
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
