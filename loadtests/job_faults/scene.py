"""Servers that can be broken and come back, workers that are started again when they end, and a load of jobs.

Jobs are queued as the watcher does it: the file first, then its row, in a transaction that is repeated under the same
id until it is known to be committed. From then on the job is accepted.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGKILL, Signals
from typing import Final
from uuid import UUID, uuid4

from infra.migrations.runner import migrate
from infra.onebox.home import Home
from infra.onebox.postgres import EmbeddedPostgres
from infra.onebox.spawn import launch_arguments
from infra.onebox.valkey import EmbeddedValkey
from loadtests.job_faults import handlers
from loadtests.ports import free_port
from loadtests.rabbit_server import RabbitServer
from shared.bus.hints import HintOffers
from shared.hint_servers import open_offers
from shared.store import devices, jobs
from shared.store.errors import StoreError
from shared.store.jobs import NewJob
from shared.store.pool import Pool, open_pool

__all__ = ["Load", "Scene", "Server", "Worker", "running_scene"]

_ROOT: Final = Path(__file__).parents[2]
_CONNECTIONS_MAX: Final = 60
_DEVICES: Final = 8
_TICK_S: Final = 0.05
# One in so many: most jobs should be ordinary ones.
_FAILS_ONE_IN: Final = 40
_CRASHES_ONE_IN: Final = 400


class Server:
    """A Postgres or a Valkey. `kill` and `stop` until `start`, `pause` until `resume`."""

    def __init__(self, server: EmbeddedPostgres | EmbeddedValkey, folder: Path) -> None:
        self.server = server
        self._log = folder / f"{server.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        if self._process is not None:
            return
        await asyncio.to_thread(self.server.prepare)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.server.launch_arguments(), cwd="/", env=self.server.environment(), stdout=log, stderr=log
            )
        await self.server.wait_ready(60)

    async def stop(self) -> None:
        """As an operator does."""
        await self._end(self.server.stop_signal)

    async def kill(self) -> None:
        """kill -9."""
        await self._end(SIGKILL)

    def send(self, number: Signals) -> None:
        """To itself alone."""
        if self._process is not None:
            self._process.send_signal(number)

    async def _end(self, number: Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            await asyncio.to_thread(process.wait, 30)


class Worker:
    """A worker that is started again when it ends, as a supervisor does. `crash_at` is the step it kills itself at."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path, rand: Random) -> None:
        self.name = name
        self.starts = 0
        self.crashes = 0
        self.crash_at: str | None = None
        self._environment = dict(environment)
        self._log = log
        self._rand = rand
        self._process: subprocess.Popen[bytes] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Begin to keep it running."""
        self._launch()
        self._keeping = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def ready(self) -> None:
        """Return once it claims jobs for the first time."""
        while b"worker ready" not in self._log.read_bytes():
            await asyncio.sleep(0.02)

    def said(self) -> str:
        """Its log."""
        return self._log.read_text("utf-8", "replace")

    def send(self, number: Signals) -> None:
        """To the worker and its handler processes, if it runs."""
        with suppress(ProcessLookupError, OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            for pid in (self.pid, *map(int, children)):
                os.kill(pid, number)

    def kill(self) -> None:
        """kill -9 of the worker alone."""
        if self._process is not None:
            self._process.kill()

    def terminate(self) -> None:
        """SIGTERM, as whoever rolls out a release sends it; it is started again."""
        if self._process is not None:
            self._process.terminate()

    async def stop(self) -> None:
        """End it for good."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._process is not None:
            self.send(SIGCONT)
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, 20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _launch(self) -> None:
        program = ["worker"]
        if self.crash_at is not None:
            program = ["loadtests.job_faults.crashing_worker", self.crash_at, str(self._rand.randint(1, 8))]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                launch_arguments([sys.executable, "-m", *program]),
                cwd=_ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.starts += 1

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            if (status := self._process.poll()) is not None:
                self.crashes += status == -SIGKILL
                await asyncio.sleep(0.1)
                self._launch()
            await asyncio.sleep(0.02)


@dataclass
class Load:
    """Jobs at a steady rate while it runs. `accepted` are those known to be committed, with their kind."""

    scene: "Scene"
    name: str
    rate: float
    accepted: dict[UUID, str] = field(default_factory=dict)
    hints: bool = True
    began: float = field(default_factory=time.time)

    @property
    def devices(self) -> list[str]:
        """Of this load alone, so that their logs hold nothing else."""
        return [f"{self.name}-{number}" for number in range(_DEVICES)]

    async def run(self, stop: asyncio.Event) -> None:
        """Queue until told to stop. What was begun is accepted at the end, however long that takes."""
        pool = self.scene.pool
        for device in self.devices:
            await devices.ensure(pool, device, "truck")
        self.began = time.time()
        debt = 0.0
        while not stop.is_set():
            debt = min(debt + self.rate * _TICK_S, 4 * self.rate * _TICK_S + 1)
            batch = [self._make() for _ in range(int(debt))]
            debt -= len(batch)
            if batch:
                await self._accept(batch)
            await asyncio.sleep(_TICK_S)

    def _make(self) -> NewJob:
        number = next(self.scene.numbers)
        kind = "echo"
        if number % _FAILS_ONE_IN == _FAILS_ONE_IN // 2:
            kind = "fails"
        if number % _CRASHES_ONE_IN == _CRASHES_ONE_IN // 4:
            kind = "crash"
        device, name, data = self.devices[number % _DEVICES], f"{number}.{kind}", f"request {number}".encode()
        path = f"Requests/{device}/{name}"
        file = self.scene.cloud / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return NewJob(uuid4(), "requests", kind, device, "local", path, name, len(data), sha256(data).hexdigest())

    async def _accept(self, batch: list[NewJob]) -> None:
        while True:
            try:
                async with self.scene.pool.transaction() as connection:
                    await jobs.insert_jobs(connection, batch)
                break
            except StoreError:
                await asyncio.sleep(0.1)
        for job in batch:
            self.accepted[job.job_id] = job.kind
            if self.hints:
                self.scene.hints.offer("requests", job.job_id)


class Scene:
    """Everything that runs."""

    def __init__(
        self, folder: Path, postgres: Server, valkey: Server, rabbit: RabbitServer | None, rand: Random
    ) -> None:
        self.folder = folder
        self.cloud = folder / "cloud"
        self.postgres = postgres
        self.valkey = valkey
        self.rabbit = rabbit
        self.hints_url = rabbit.url if rabbit is not None else valkey.server.url
        self.hints: HintOffers = open_offers(self.hints_url, name="load")
        self.rand = rand
        self.workers: list[Worker] = []
        self.numbers = count(1)
        self.pool: Pool

    @property
    def database_url(self) -> str:
        """A secret."""
        return self.postgres.server.url

    def add_worker(self, lease_s: float, **settings: str) -> Worker:
        """Start one more."""
        name = f"w{len(self.workers) + 1}"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(self.folder / "site"), str(_ROOT)]),
            "FLEETWIRE_DATABASE_URL": self.database_url,
            "FLEETWIRE_REDIS_URL": self.valkey.server.url,
            "FLEETWIRE_QUEUE_URL": self.hints_url,
            "FLEETWIRE_CLOUD_ROOT": str(self.cloud),
            "FLEETWIRE_CLOUD_TMP": str(self.folder / "cloud-tmp"),
            "FLEETWIRE_OPS_PORT": "0",
            "FLEETWIRE_DB_POOL_MAX": "4",
            "FLEETWIRE_WORKER_NAME": name,
            "FLEETWIRE_WORKER_PROCESSES": "1",
            "FLEETWIRE_WORKER_LEASE_S": f"{lease_s:g}",
            "FLEETWIRE_WORKER_HEARTBEAT_S": f"{lease_s / 3.5:g}",
            "FLEETWIRE_WORKER_RETRY_BASE_S": "0.2",
            "FLEETWIRE_WORKER_RETRY_CAP_S": "1",
            **settings,
        }
        worker = Worker(name, environment, self.folder / f"{name}.log", self.rand)
        worker.start()
        self.workers.append(worker)
        return worker


@asynccontextmanager
async def running_scene(
    folder: Path,
    *,
    workers: int,
    lease_s: float,
    rand: Random,
    durable: bool = True,
    with_rabbit: bool = False,
    **settings: str,
) -> AsyncIterator[Scene]:
    """Start everything, and end it. With RabbitMQ, hints go by it."""
    home = Home(folder / "home")
    home.prepare()
    for name in ("cloud", "cloud-tmp"):
        (folder / name).mkdir()
    handlers.install(folder / "site")
    limits = {"max_connections": str(_CONNECTIONS_MAX)}
    postgres = Server(EmbeddedPostgres(home, port=free_port(), durable=durable, settings=limits), folder)
    valkey = Server(EmbeddedValkey(home, port=free_port()), folder)
    rabbit = RabbitServer(folder / "rabbit") if with_rabbit else None
    scene = Scene(folder, postgres, valkey, rabbit, rand)
    hinting: asyncio.Task[None] | None = None
    try:
        if rabbit is not None:
            rabbit.launch()
            await rabbit.wait_ready()
        await asyncio.gather(postgres.start(), valkey.start())
        await migrate(scene.database_url)
        scene.pool = await open_pool(scene.database_url, name="load", max_size=6)
        hinting = asyncio.create_task(scene.hints.run())
        for _ in range(workers):
            scene.add_worker(lease_s, **settings)
        async with asyncio.timeout(60):
            for worker in scene.workers:
                await worker.ready()
        yield scene
    finally:
        await asyncio.gather(*(worker.stop() for worker in scene.workers))
        if hinting is not None:
            await scene.hints.close()
            await hinting
            await scene.pool.close()
        for server in (valkey, postgres):
            server.send(SIGCONT)
            await server.kill()
        if rabbit is not None:
            await asyncio.to_thread(rabbit.stop)
