"""Our side: a worker process beside its Postgres and Valkey, jobs queued by this process, and what came of them.

What is done for each job, all of it in Postgres and nothing left out: the row and its history are queued; a claim
raises its token, writes its history and reserves its response; the handler `ping` runs as a coroutine under its
deadline; one transaction ends the job under its token, completes its response, writes its history and appends the
event ResponseReady to its device's log; the event is published to Valkey. As hints are in the product, one is sent
for every job.

In the *carried* shape the request comes in the job's row and the answer goes out within the event, so no file is
written. In the *written* shape a process of the pool answers, from a copy of the request that is staged for it, and
response.json is written to the disk and synced before the job ends, as for every file that a device drops.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx

from loadtests.driver.latency import Latencies
from loadtests.ports import free_port
from loadtests.process import start_python, tree_cpu_seconds
from loadtests.stand import Stand
from shared.bus.job_hints import JobHints
from shared.protocol.ids import time_ordered_uuid
from shared.store import jobs
from shared.store.jobs import InlineJob
from shared.store.pool import Pool, open_pool

__all__ = ["DEVICES", "Drained", "Ours", "Shape", "running_worker"]

DEVICES: Final = 200
QUEUE: Final = "requests"
_BODY: Final = '{"ask": "no-op"}'
_HASH: Final = sha256(_BODY.encode()).hexdigest()
_READY_S: Final = 40.0
_STALL_S: Final = 30.0
# The same rows as `jobs.insert_inline` makes, for many jobs in one statement.
_QUEUE_MANY: Final = """
WITH made AS (
    INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, inline_body,
                      requested_by)
    SELECT i.job_id, $3, $4, i.device_id, 'local', '', $5, $6, $7, $8, 'operator:bench'
    FROM unnest($1::uuid[], $2::text[]) AS i (job_id, device_id)
    RETURNING job_id
)
INSERT INTO job_status (job_id, status, detail) SELECT job_id, 'queued', 'requested by operator:bench' FROM made
"""
_HEAD: Final = """
SELECT e.body FROM devices d JOIN events e ON e.device_id = d.device_id AND e.seq = d.head_seq WHERE d.device_id = $1
"""
_JUDGED: Final = """
SELECT j.job_id, j.current_status, s.changes, k.events, r.outcome,
       j.current_status = 'done' AND s.changes = '{queued,running,done}' AND k.events = 1
           AND r.outcome = 'ready' AS right
FROM jobs j
LEFT JOIN responses r ON r.job_id = j.job_id
CROSS JOIN LATERAL (SELECT array_agg(status ORDER BY id) AS changes FROM job_status WHERE job_id = j.job_id) s
CROSS JOIN LATERAL (
    SELECT count(*) AS events FROM event_keys WHERE device_id = j.device_id AND dedupe_key = 'job:' || j.job_id
) k
WHERE j.job_id = ANY ($1::uuid[])
"""
_JUDGED_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Shape:
    """How jobs come and are worked on: `batch` in one transaction, claims of `claim`, at most `ahead` waiting.

    `written`: with a response.json each. `logged`: the worker says what it does, as it does by default.
    """

    name: str
    jobs: int
    batch: int
    claim: int
    concurrency: int
    senders: int = 2
    ahead: int = 2000
    written: bool = False
    logged: bool = False

    @property
    def settings(self) -> Mapping[str, str]:
        """Of the worker."""
        return {
            "FLEETWIRE_WORKER_CLAIM": str(self.claim),
            "FLEETWIRE_WORKER_CONCURRENCY": str(self.concurrency),
            "FLEETWIRE_LOG_LEVEL": "info" if self.logged else "warning",
        }


@dataclass
class Drained:
    """What a shape came to."""

    jobs: int
    seconds: float
    worker_cpu_s: float
    postgres_cpu_s: float
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As it is saved."""
        return {
            "jobs": self.jobs,
            "seconds": round(self.seconds, 2),
            "jobs_per_s": round(self.jobs / self.seconds),
            "worker_cpu_us": round(self.worker_cpu_s / self.jobs * 1e6, 1),
            "postgres_cpu_us": round(self.postgres_cpu_s / self.jobs * 1e6, 1),
            "wrong": self.wrong[:5],
        }


@contextmanager
def running_worker(stand: Stand, **settings: str) -> Iterator[int]:
    """A worker for the length of a block; gives its pid."""
    port = free_port()
    cloud = stand.folder / "cloud"
    cloud.mkdir(exist_ok=True)
    environment = {
        "FLEETWIRE_DATABASE_URL": stand.postgres.url,
        "FLEETWIRE_REDIS_URL": stand.valkey.url,
        "FLEETWIRE_CLOUD_ROOT": str(cloud),
        "FLEETWIRE_CLOUD_TMP": str(stand.folder / "cloud-tmp"),
        "FLEETWIRE_WORKER_NAME": "bench",
        "FLEETWIRE_WORKER_PROCESSES": "1",
        "FLEETWIRE_WORKER_NOOP": "1",
        "FLEETWIRE_OPS_PORT": str(port),
        "FLEETWIRE_LOG_LEVEL": "warning",
        **settings,
    }
    path = stand.folder / "worker.log"
    with path.open("wb") as log:
        process = start_python("worker", environ=environment, log=log)
    try:
        end = time.monotonic() + _READY_S
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the worker does not start:\n{path.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class Ours:
    """Queues jobs and sees their ends."""

    def __init__(self, stand: Stand, pool: Pool, hints: JobHints, seed: int = 1) -> None:
        self._stand = stand
        self._pool = pool
        self._hints = hints
        self._rand = Random(seed)
        self._number = 0

    @classmethod
    @asynccontextmanager
    async def on(cls, stand: Stand) -> AsyncIterator["Ours"]:
        """Connections for the length of a block."""
        pool = await open_pool(stand.postgres.url, name="bench", max_size=6)
        hints = JobHints(stand.valkey.url, name="bench-hints")
        task = asyncio.create_task(hints.run())
        try:
            yield cls(stand, pool, hints)
        finally:
            await hints.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await pool.close()

    async def drain(self, shape: Shape, worker: int) -> Drained:
        """Queue and have done all jobs of the shape, while at most `ahead` of them wait."""
        begin = await self._ended()
        queued: list[UUID] = []
        progress = asyncio.Event()
        done = 0
        postgres = self._stand.pids["postgres"]
        before = _cpu(worker, postgres)
        began = time.monotonic()

        async def send() -> None:
            while len(queued) < shape.jobs:
                if len(queued) - done >= shape.ahead:
                    progress.clear()
                    await progress.wait()
                    continue
                ids = self._ids(min(shape.batch, shape.jobs - len(queued)))
                queued.extend(ids)
                await self._queue(shape, ids)
                for job_id in ids:
                    self._hints.offer(QUEUE, job_id)

        senders = [asyncio.create_task(send()) for _ in range(shape.senders)]
        moved = began
        while done < shape.jobs:
            await asyncio.sleep(0.02)
            now = await self._ended() - begin
            if now > done:
                done, moved = now, time.monotonic()
                progress.set()
            if time.monotonic() - moved > _STALL_S:
                raise RuntimeError(f"only {done} of {shape.jobs} jobs ended, and nothing moves")
        took = time.monotonic() - began
        spent = [after - first for after, first in zip(_cpu(worker, postgres), before, strict=True)]
        await asyncio.gather(*senders)
        return Drained(shape.jobs, took, spent[0], spent[1], await self.verify(queued))

    async def one_by_one(self, count: int, worker: int) -> tuple[Drained, Latencies]:
        """Each job queued a moment after the one before it has ended: the rate, and milliseconds until it is begun.

        They are counted from before it is queued to the time that the handler says.
        """
        begun = Latencies()
        postgres = self._stand.pids["postgres"]
        ids = self._ids(count)
        busy = 0.0
        before = _cpu(worker, postgres)
        sql = await asyncpg.connect(self._stand.postgres.url)
        try:
            for number, job_id in enumerate(ids):
                await asyncio.sleep(self._rand.uniform(0.005, 0.02))  # no rhythm that polls might have as well
                device_id = f"d{number % DEVICES}"
                asked, began = time.time(), time.monotonic()
                await self._insert(job_id, device_id)
                self._hints.offer(QUEUE, job_id)
                while str(job_id) not in (body := await sql.fetchval(_HEAD, device_id) or ""):
                    await asyncio.sleep(0.003)
                    if time.monotonic() - began > _STALL_S:
                        raise RuntimeError("a job does not end")
                busy += time.monotonic() - began
                begun.add((json.loads(body)["data"]["answer"]["summary"]["at"] - asked) * 1000)
        finally:
            await sql.close()
        spent = [after - first for after, first in zip(_cpu(worker, postgres), before, strict=True)]
        return Drained(count, busy, spent[0], spent[1], await self.verify(ids)), begun

    def _ids(self, count: int) -> list[UUID]:
        return [time_ordered_uuid(time.time(), self._rand) for _ in range(count)]

    async def _queue(self, shape: Shape, ids: Sequence[UUID]) -> None:
        devices = []
        for _ in ids:
            self._number += 1
            devices.append(f"d{self._number % DEVICES}")
        kind, name = ("noop", "a.noop") if shape.written else ("ping", "a.json")

        async def work(connection: Any) -> None:
            await connection.execute(_QUEUE_MANY, ids, devices, QUEUE, kind, name, len(_BODY), _HASH, _BODY)

        await self._pool.run(work)

    async def _insert(self, job_id: UUID, device_id: str) -> None:
        where = (device_id, "local", "", "a.json", len(_BODY), _HASH, _BODY, "operator:bench")
        if await jobs.insert_inline(self._pool, InlineJob(job_id, QUEUE, "ping", *where)) != "made":
            raise RuntimeError("a job was not queued")

    async def _ended(self) -> int:
        """Events in all logs: a job has ended when its device has been told."""
        return int((await self._pool.fetch("SELECT sum(head_seq) FROM devices"))[0][0])

    async def verify(self, ids: Sequence[UUID]) -> list[str]:
        """Each job done, with one event, its three changes of state, and a response that names this event."""
        rows = []
        for first in range(0, len(ids), _JUDGED_AT_ONCE):
            rows += await self._pool.fetch(_JUDGED, list(ids[first : first + _JUDGED_AT_ONCE]))
        wrong = [str(dict(row)) for row in rows if not row["right"]]
        return wrong if len(rows) == len(ids) else [*wrong, f"{len(ids)} jobs queued, {len(rows)} found"]


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _cpu(worker: int, postgres: int) -> tuple[float, float]:
    """Seconds of CPU of the worker with its pool, and of Postgres."""
    return tree_cpu_seconds(worker), tree_cpu_seconds(postgres)
