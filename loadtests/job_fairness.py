"""One device's 10,000 jobs beside another device's single ones, and jobs that kill their process every time.

Real workers on a Postgres and a Valkey of their own. A job of the second device is queued, awaited, and the next one
queued: first alone, then while the first device's flood waits, then while poisoned jobs end processes. Said is how long
each took from its commit to its event, by the database's clock. It must hold that the flood makes that at most twice as
long, that a poisoned job is dead after its attempts and its device told once, and that nobody else's attempt was lost.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, NoReturn
from uuid import UUID, uuid4

import uvloop
from rich.console import Console
from rich.progress import Progress

from infra.onebox.spawn import launch_arguments
from loadtests.stand import Stand, child, running_stand
from shared.bus.job_hints import JobHints
from shared.store import jobs
from shared.store.jobs import NewJob
from shared.store.pool import Pool, open_pool
from worker.handlers.contract import Answer, Task

__all__ = ["Figures", "main"]

RESULTS: Final = Path(__file__).parent / "results"
QUEUE: Final = "requests"
FLOOD, OTHER, POISONED = "flood", "other", "poisoned"
_ATTEMPTS: Final = 3


class Wait:
    """Takes a while, without a CPU: what is measured is the order in which jobs are taken, not this machine."""

    kind = "wait"
    extensions = frozenset({".wait"})

    def recognises(self, head: bytes) -> bool:
        """By its name alone."""
        return False

    def run(self, task: Task) -> Answer:
        """As long as the run says."""
        time.sleep(float(task.options["wait.seconds"]))
        return Answer("processed")


class Poison:
    """Kills its process."""

    kind = "poison"
    extensions = frozenset({".poison"})

    def recognises(self, head: bytes) -> bool:
        """By its name alone."""
        return False

    def run(self, task: Task) -> NoReturn:
        """Every time."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("dead")


def install(folder: Path) -> None:
    """The metadata of an installed package that offers both; the folder goes on PYTHONPATH."""
    info = folder / "fleetwire_fairness_handlers-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fleetwire-fairness-handlers\nVersion: 1.0\n")
    lines = [f"{handler.kind} = loadtests.job_fairness:{handler.__name__}" for handler in (Wait, Poison)]
    (info / "entry_points.txt").write_text("[fleetwire.handlers]\n" + "\n".join(lines) + "\n")


@dataclass(frozen=True)
class Figures:
    """What a run found. Times in milliseconds from a job's commit to its end."""

    alone_p50: float
    alone_p95: float
    flooded_p50: float
    flooded_p95: float
    flooded_max: float
    beside_poison_p50: float
    beside_poison_p95: float
    flood_waiting: int
    flood_done: int
    poisoned: int
    poisoned_dead: int
    poisoned_told: int
    attempts_lost: int
    not_done: int

    @property
    def ratio(self) -> float:
        """How much longer another device's job takes beside the flood, in the middle and at the slow end."""
        return round(max(self.flooded_p50 / self.alone_p50, self.flooded_p95 / self.alone_p95), 2)

    @property
    def problems(self) -> list[str]:
        """What did not hold."""
        found = {
            "the flood delays another device's job by more than twice": self.ratio > 2,
            "the flood was over before the last job was measured": self.flood_waiting == 0,
            "not every poisoned job is dead": self.poisoned_dead != self.poisoned,
            "not each told once": self.poisoned_told != self.poisoned,
            "attempts of others were lost": self.attempts_lost != 0,
            "jobs of others did not end": self.not_done != 0,
        }
        return [text for text, happened in found.items() if happened]


class Scene:
    """Jobs as a watcher puts them, hints included."""

    def __init__(self, stand: Stand, pool: Pool, hints: JobHints) -> None:
        self._root = stand.folder / "cloud"
        self.pool = pool
        self._hints = hints
        self._rand = Random(1)

    async def queue(self, device_id: str, kind: str, count: int) -> list[UUID]:
        """So many jobs, in one transaction."""
        data = b"x"
        path = f"Requests/{device_id}/one.{kind}"
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        (self._root / path).write_bytes(data)
        version = sha256(data).hexdigest()
        new = [
            NewJob(uuid4(), QUEUE, kind, device_id, "local", path, f"one.{kind}", len(data), version)
            for _ in range(count)
        ]
        async with self.pool.transaction() as connection:
            await jobs.insert_jobs(connection, new)
        for job in new[:100]:
            self._hints.offer(QUEUE, job.job_id)
        return [job.job_id for job in new]

    async def count(self, condition: str) -> int:
        """Jobs of which this holds."""
        return int((await self.pool.fetch(f"SELECT count(*) FROM jobs WHERE {condition}"))[0][0])

    async def probe(self, count: int, progress: Progress, title: str) -> list[float]:
        """One job after another of the other device: how long each took, in milliseconds, sorted."""
        task = progress.add_task(title, total=count)
        took = []
        for _ in range(count):
            (job_id,) = await self.queue(OTHER, "wait", 1)
            async with asyncio.timeout(120):
                while not (
                    found := await self.pool.fetch(
                        "SELECT extract(epoch FROM finished_at - created_at)::float8 FROM jobs "
                        "WHERE job_id = $1 AND finished_at IS NOT NULL",
                        job_id,
                    )
                ):
                    await asyncio.sleep(0.01)
            took.append(found[0][0] * 1000)
            progress.advance(task)
            # Else each would come just when the handlers beside it have begun anew, and wait for all of their time.
            await asyncio.sleep(self._rand.uniform(0, 0.25))
        return sorted(took)


async def run(scene: Scene, progress: Progress, *, flood: int, probes: int, poisoned: int) -> Figures:
    """All three parts, on workers that run already."""
    await scene.probe(5, progress, "warm-up")
    alone = await scene.probe(probes, progress, "alone")
    await scene.queue(POISONED, "poison", poisoned)
    beside = await scene.probe(probes, progress, "beside poison")
    async with asyncio.timeout(60 + 20 * poisoned):
        while await scene.count(f"device_id = '{POISONED}' AND finished_at IS NULL"):
            await asyncio.sleep(0.1)
    await scene.queue(FLOOD, "wait", flood)
    async with asyncio.timeout(60):
        while not await scene.count(f"device_id = '{FLOOD}' AND finished_at IS NOT NULL"):
            await asyncio.sleep(0.05)
    flooded = await scene.probe(probes, progress, f"beside {flood:,}")
    told = await scene.pool.fetch(
        "SELECT count(*) FROM events WHERE device_id = $1 AND type = 'RequestFailed'", POISONED
    )
    return Figures(
        alone_p50=round(median(alone), 1),
        alone_p95=round(_p95(alone), 1),
        flooded_p50=round(median(flooded), 1),
        flooded_p95=round(_p95(flooded), 1),
        flooded_max=round(flooded[-1], 1),
        beside_poison_p50=round(median(beside), 1),
        beside_poison_p95=round(_p95(beside), 1),
        flood_waiting=await scene.count(f"device_id = '{FLOOD}' AND current_status = 'queued'"),
        flood_done=await scene.count(f"device_id = '{FLOOD}' AND current_status = 'done'"),
        poisoned=poisoned,
        poisoned_dead=await scene.count(
            f"device_id = '{POISONED}' AND current_status = 'dead' AND attempts = {_ATTEMPTS}"
        ),
        poisoned_told=told[0][0],
        attempts_lost=await scene.count(f"device_id <> '{POISONED}' AND attempts > 1"),
        not_done=await scene.count(f"device_id = '{OTHER}' AND current_status <> 'done'"),
    )


def _p95(found: Sequence[float]) -> float:
    return found[min(len(found) - 1, round(0.95 * len(found)))]


def _worker(stand: Stand, number: int, wait_s: float) -> dict[str, str]:
    path = os.pathsep.join([str(stand.folder / "site"), str(Path(__file__).parents[1])])
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": path,
        "FLEETWIRE_DATABASE_URL": stand.postgres.url,
        "FLEETWIRE_REDIS_URL": stand.valkey.url,
        "FLEETWIRE_CLOUD_ROOT": str(stand.folder / "cloud"),
        "FLEETWIRE_CLOUD_TMP": str(stand.folder / "cloud-tmp"),
        "FLEETWIRE_OPS_PORT": "0",
        "FLEETWIRE_WORKER_NAME": f"fair-{number}",
        "FLEETWIRE_WORKER_PROCESSES": "2",
        "FLEETWIRE_WORKER_MAX_ATTEMPTS": str(_ATTEMPTS),
        "FLEETWIRE_WORKER_RETRY_BASE_S": "0.5",
        "FLEETWIRE_WORKER_HANDLER_OPTIONS": json.dumps({"wait.seconds": wait_s}),
        "FLEETWIRE_LOG_LEVEL": "warning",
    }


async def measure(
    stand: Stand, progress: Progress, *, flood: int, probes: int, poisoned: int, workers: int, wait_s: float
) -> Figures:
    """Start the workers and run all of it."""
    await stand.make_devices([FLOOD, OTHER, POISONED])
    for folder in ("cloud", "cloud-tmp"):
        (stand.folder / folder).mkdir()
    install(stand.folder / "site")
    pool = await open_pool(stand.postgres.url, name="load", max_size=4)
    hints = JobHints(stand.valkey.url, name="load-hints")
    offering = asyncio.create_task(hints.run())
    try:
        with ExitStack() as stack:
            for number in range(workers):
                log = stand.folder / f"worker-{number}.log"
                arguments = launch_arguments([sys.executable, "-m", "worker"])
                stack.enter_context(child(arguments, log, _worker(stand, number, wait_s)))
            scene = Scene(stand, pool, hints)
            return await run(scene, progress, flood=flood, probes=probes, poisoned=poisoned)
    finally:
        await hints.close()
        await asyncio.wait([offering], timeout=2)
        await pool.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.job_fairness", description=__doc__)
    parser.add_argument("--flood", type=int, default=10_000)
    parser.add_argument("--probes", type=int, default=60)
    parser.add_argument("--poisoned", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--wait-s", type=float, default=0.1, help="how long each job's handler takes")
    options = vars(parser.parse_args(arguments))
    console = Console()
    with running_stand() as stand, Progress(console=console) as progress:
        figures = uvloop.run(measure(stand, progress, **options))
    shown: dict[str, Any] = options | asdict(figures) | {"ratio": figures.ratio, "problems": figures.problems}
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"job_fairness-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(shown, indent=1) + "\n")
    console.print(shown)
    console.print(f"{'[red]FAILED' if figures.problems else '[green]passed'}[/], saved to {file}")
    return 1 if figures.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
