"""Both servers that can carry hints of jobs are stopped under a steady load: nothing is refused, jobs begin by polling.

For each carrier (Redis, RabbitMQ) an API and workers are started that use it. First jobs are asked for one by one, to
see how soon an idle worker begins. Then jobs come at a steady rate while both servers run, while both are stopped, and
after both have come back. A job's wait is from its row to its claim, both by Postgres' clock. No request may be
refused, every job must end with one event, and the 99th percentile of waits may grow by two seconds at most.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from infra.onebox.home import Home
from infra.onebox.spawn import launch_arguments
from infra.onebox.valkey import EmbeddedValkey
from loadtests.job_faults.scene import Server
from loadtests.ports import free_port
from loadtests.rabbit_server import RABBIT_MISSING, RabbitServer, server_script
from loadtests.stand import Stand, child, running_stand, wait_listening

__all__ = ["Phase", "main"]

RESULTS: Final = Path(__file__).parent / "results"
ADDED_MAX_S: Final = 2.0
_DEVICES: Final = 8
_WARM_UP: Final = 10
_END_S: Final = 30.0
_ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Phase:
    """Jobs that were asked for in one phase. Waits in milliseconds, from the row to the claim."""

    name: str
    asked: int
    refused: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    slowest_answer_ms: float


@dataclass(frozen=True)
class Round:
    """One carrier's phases, and what came of all its jobs."""

    carrier: str
    phases: list[Phase]
    jobs: int
    done: int
    events: int

    @property
    def added_s(self) -> float:
        """By how much the 99th percentile grew while nothing carried hints."""
        waits = {phase.name: phase.p99_ms for phase in self.phases}
        return (waits["stopped"] - waits["running"]) / 1000

    @property
    def problems(self) -> list[str]:
        """What did not hold."""
        found = {
            "a request was refused": any(phase.refused for phase in self.phases),
            "not every job was done": self.done != self.jobs,
            "not one event for each job": self.events != self.jobs,
            f"the wait grew by more than {ADDED_MAX_S:g} s": self.added_s > ADDED_MAX_S,
        }
        return [text for text, happened in found.items() if happened]


class Asking:
    """Requests for jobs, and which of them were made when."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.made: dict[str, list[UUID]] = {}
        self.refused: dict[str, int] = {}
        self.slowest: dict[str, float] = {}

    async def ask(self, phase: str) -> UUID | None:
        """One job."""
        number = len(self.made.get(phase, ()))
        job = {"device_id": f"load-{number % _DEVICES}", "kind": "ping", "name": f"{number}.ping", "data": "ping"}
        began = time.monotonic()
        try:
            answer = await self._client.post("/api/v1/jobs", json=job, headers={"Idempotency-Key": f'"{uuid4()}"'})
        except httpx.HTTPError:
            answer = None
        self.slowest[phase] = max(self.slowest.get(phase, 0.0), time.monotonic() - began)
        if answer is None or answer.status_code != 201:
            self.refused[phase] = self.refused.get(phase, 0) + 1
            return None
        job_id = UUID(answer.json()["job_id"])
        self.made.setdefault(phase, []).append(job_id)
        return job_id

    async def steadily(self, phase: str, seconds: float, rate: float) -> None:
        """So many a second, whether the earlier ones were answered or not."""
        asked: list[asyncio.Task[UUID | None]] = []
        began = time.monotonic()
        for number in range(round(seconds * rate)):
            await asyncio.sleep(began + number / rate - time.monotonic())
            asked.append(asyncio.create_task(self.ask(phase)))
        await asyncio.gather(*asked)


async def _idle(asking: Asking, stand: Stand, jobs: int) -> None:
    """One after the other, each when the one before has ended."""
    for _ in range(jobs):
        job_id = await asking.ask("idle")
        async with asyncio.timeout(_END_S):
            while not await stand.query("SELECT FROM jobs WHERE job_id = $1 AND current_status = 'done'", job_id):
                await asyncio.sleep(0.01)


async def _phase(stand: Stand, asking: Asking, name: str) -> Phase:
    rows = await stand.query(
        "SELECT extract(epoch FROM (SELECT min(ts) FROM job_status s WHERE s.job_id = j.job_id AND status = 'running')"
        " - created_at)::float8 AS wait FROM jobs j WHERE job_id = ANY ($1::uuid[]) ORDER BY 1",
        asking.made.get(name, []),
    )
    waits = [row["wait"] * 1000 for row in rows if row["wait"] is not None] or [0.0]
    refused = asking.refused.get(name, 0)
    figures = (waits[len(waits) // 2], waits[int(len(waits) * 0.99)], waits[-1], 1000 * asking.slowest.get(name, 0.0))
    return Phase(name, len(rows) + refused, refused, *(round(figure, 1) for figure in figures))


class Carriers:
    """Valkey and RabbitMQ, stopped and started together."""

    def __init__(self, valkey: Server, rabbit: RabbitServer | None, how: str) -> None:
        self.valkey = valkey
        self.rabbit = rabbit
        self._how = how

    def url(self, carrier: str) -> str:
        """Where hints go."""
        if carrier == "redis":
            return self.valkey.server.url
        assert self.rabbit is not None, "asked for without one"
        return self.rabbit.url

    async def stop(self) -> None:
        """Both, so that connections end (kill) or nothing is answered (pause)."""
        if self._how == "kill":
            await self.valkey.kill()
            if self.rabbit is not None:
                await asyncio.to_thread(self.rabbit.kill)
        else:
            self.valkey.send(SIGSTOP)
            if self.rabbit is not None:
                self.rabbit.pause()

    async def start(self) -> None:
        """Both, until they serve."""
        if self._how == "kill":
            if self.rabbit is not None:
                self.rabbit.launch()
            await self.valkey.start()
            if self.rabbit is not None:
                await self.rabbit.wait_ready()
        else:
            self.valkey.send(SIGCONT)
            if self.rabbit is not None:
                self.rabbit.resume()


@asynccontextmanager
async def _processes(
    stand: Stand, carriers: Carriers, carrier: str, workers: int, small_jobs: int
) -> AsyncIterator[Asking]:
    redis = {"FLEETWIRE_REDIS_URL": carriers.valkey.server.url, "FLEETWIRE_QUEUE_URL": carriers.url(carrier)}
    port = free_port()
    redis["FLEETWIRE_API_SMALL_JOBS"] = str(small_jobs)
    api = stand.api_environment(FLEETWIRE_API_PORT=str(port), FLEETWIRE_OPS_PORT="0", **redis)
    with ExitStack() as stack:
        logs = []
        for number in range(workers):
            environment = _worker(stand, f"{carrier}-{number}") | redis
            logs.append(stand.folder / f"worker-{carrier}-{number}.log")
            stack.enter_context(child(launch_arguments([sys.executable, "-m", "worker"]), logs[-1], environment))
        environment = {"PATH": os.environ["PATH"]} | api
        stack.enter_context(
            child(
                launch_arguments([sys.executable, "-m", "api"]),
                stand.folder / f"api-{carrier}.log",
                environment,
                folder=_ROOT,
            )
        )
        await asyncio.to_thread(wait_listening, port)
        async with asyncio.timeout(60):
            while not all(b"worker ready" in log.read_bytes() for log in logs):
                await asyncio.sleep(0.05)
        bearer = stand.bearer("load", "service")
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {bearer}"},
            timeout=30.0,
            trust_env=False,
        ) as client:
            yield Asking(client)


def _worker(stand: Stand, name: str) -> dict[str, str]:
    for folder in ("cloud", "cloud-tmp"):
        (stand.folder / folder).mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(_ROOT),
        "FLEETWIRE_DATABASE_URL": stand.postgres.url,
        "FLEETWIRE_CLOUD_ROOT": str(stand.folder / "cloud"),
        "FLEETWIRE_CLOUD_TMP": str(stand.folder / "cloud-tmp"),
        "FLEETWIRE_OPS_PORT": "0",
        "FLEETWIRE_WORKER_NAME": name,
        "FLEETWIRE_WORKER_PROCESSES": "1",
        "FLEETWIRE_LOG_LEVEL": "info",
    }


async def run(stand: Stand, carriers: Carriers, carrier: str, options: argparse.Namespace) -> Round:
    """One carrier, through all phases."""
    async with _processes(stand, carriers, carrier, options.workers, options.small_jobs) as asking:
        for _ in range(_WARM_UP):
            await asking.ask("warm-up")
        await _idle(asking, stand, options.idle)
        await asking.steadily("running", options.around, options.rate)
        await carriers.stop()
        await asking.steadily("stopped", options.seconds, options.rate)
        starting = asyncio.create_task(carriers.start())
        await asking.steadily("back", options.around, options.rate)
        await starting
        made = [job_id for jobs in asking.made.values() for job_id in jobs]
        done = await _ended(stand, made)
        phases = [await _phase(stand, asking, name) for name in ("idle", "running", "stopped", "back")]
    statement = "SELECT count(*) AS n FROM event_keys WHERE dedupe_key = ANY ($1::text[])"
    events = (await stand.query(statement, [f"job:{job_id}" for job_id in made]))[0]["n"]
    return Round(carrier, phases, len(made), done, events)


async def _ended(stand: Stand, made: Sequence[UUID]) -> int:
    """How many are done, once all are or a while has passed."""
    deadline = time.monotonic() + _END_S
    while True:
        statement = "SELECT count(*) AS n FROM jobs WHERE job_id = ANY ($1::uuid[]) AND current_status = 'done'"
        done: int = (await stand.query(statement, made))[0]["n"]
        if done == len(made) or time.monotonic() > deadline:
            return done
        await asyncio.sleep(0.2)


async def _all(stand: Stand, options: argparse.Namespace, console: Console) -> list[Round]:
    await stand.make_devices([f"load-{number}" for number in range(_DEVICES)])
    home = Home(stand.folder / "hints")
    home.prepare()
    async with AsyncExitStack() as stack:
        valkey = Server(EmbeddedValkey(home, port=free_port()), stand.folder)
        await valkey.start()
        stack.push_async_callback(valkey.kill)
        rabbit = None
        if not options.without_rabbit:
            rabbit = RabbitServer(stand.folder / "rabbit")
            rabbit.launch()
            stack.callback(rabbit.stop)
            await rabbit.wait_ready()
        carriers = Carriers(valkey, rabbit, options.how)
        rounds = []
        for carrier in ["redis"] if rabbit is None else ["redis", "rabbit"]:
            console.print(f"hints by {carrier}: some {options.seconds + 2 * options.around:g} s and the idle jobs")
            rounds.append(await run(stand, carriers, carrier, options))
        return rounds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, show, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.hint_outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="that both servers are stopped")
    parser.add_argument("--around", type=float, default=15.0, help="seconds before and after")
    parser.add_argument("--rate", type=float, default=20.0, help="jobs a second")
    parser.add_argument("--idle", type=int, default=200, help="jobs one by one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--small-jobs", type=int, default=0, help="that the API does at once by itself meanwhile")
    parser.add_argument("--how", choices=("kill", "pause"), default="kill")
    parser.add_argument("--without-rabbit", action="store_true")
    options = parser.parse_args(arguments)
    console = Console()
    if not options.without_rabbit and server_script() is None:
        console.print(f"[red]{RABBIT_MISSING}; or give --without-rabbit")
        return 2
    with running_stand() as stand:
        rounds = uvloop.run(_all(stand, options, console))
    console.print(_table(rounds))
    problems = [f"{one.carrier}: {problem}" for one in rounds for problem in one.problems]
    for problem in problems:
        console.print(f"[red]{problem}")
    figures: dict[str, Any] = {
        "rounds": [asdict(one) | {"added_s": round(one.added_s, 3)} for one in rounds],
        "problems": problems,
        "options": vars(options),
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"hint_outage-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(figures, indent=1) + "\n")
    console.print(f"{'[red]FAILED' if problems else '[green]passed'}[/], saved to {file}")
    return 1 if problems else 0


def _table(rounds: Sequence[Round]) -> Table:
    table = Table("hints by", "phase", "asked", "refused", "wait p50 ms", "p99", "most", "slowest answer ms")
    for one in rounds:
        for phase in one.phases:
            figures = [phase.p50_ms, phase.p99_ms, phase.max_ms, phase.slowest_answer_ms]
            table.add_row(
                one.carrier, phase.name, str(phase.asked), str(phase.refused), *(f"{figure:.1f}" for figure in figures)
            )
        table.add_section()
    return table


if __name__ == "__main__":
    raise SystemExit(main())
