"""`python -m worker.small_jobs N`: does small jobs that an API process hands it, while nothing carries hints.

It is a child of that API: a line with a job's id comes in, the same line goes out when the job is over here, and the
end of the input is the end of the process. The job is claimed as by any worker, under a lease that outlives its
deadline, and ended in the same transaction with the same event; whatever is not a short answer in time is given back to
the workers of its queue. So if this process or the API dies, a worker takes the job over when the lease ends.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from random import Random, SystemRandom
from typing import Any, Final
from uuid import UUID

import structlog

from shared import lifecycle
from shared.bus.publisher import Publisher
from shared.clock import iso, wall
from shared.cloud.threads import FileThreads
from shared.lifecycle import Stop
from shared.protocol.ids import time_ordered_uuid
from shared.settings import SettingsError, load
from shared.small_job_settings import SmallJobChildSettings
from shared.store import jobs, log, responses, small_claims
from shared.store.errors import StoreError
from shared.store.jobs import Claimed
from shared.store.pool import Pool
from shared.telemetry import logs
from worker.coroutines import Coroutines, load_async_handlers
from worker.endings import Endings
from worker.errors import WorkerError
from worker.handlers.ping import PingHandler
from worker.pool import HandlerPool
from worker.response_document import RequestPart, carried, document_of

__all__ = ["SmallJobs", "main"]

_log = structlog.get_logger(__name__)

HANDLER_S: Final = 5.0
# Beyond the handler's time: its cancellation, and the ending with all its tries.
LEASE_S: Final = 20.0
_WHOLE_S: Final = 15.0
_TTL_S: Final = 86_400.0
_MOST: Final = 64
_LINE_MAX: Final = 256
_PARTING_S: Final = 3.0


class SmallJobs:
    """One attempt at each job it is handed. `do` never raises but CancelledError."""

    def __init__(
        self, pool: Pool, coroutines: Coroutines, endings: Endings, *, worker: str, store: str, rand: Random
    ) -> None:
        """`store` is where a response is reserved: a worker that has to write it may choose another."""
        self._pool = pool
        self._coroutines = coroutines
        self._endings = endings
        self._worker = worker
        self._store = store
        self._rand = rand

    async def do(self, job_id: UUID) -> None:
        """Claim it, answer it, end it; or give it back."""
        job: Claimed | None = None
        try:
            async with asyncio.timeout(_WHOLE_S):
                claimed = await small_claims.claim_new(
                    self._pool, job_id, self._worker, lease_s=LEASE_S, ttl_s=_TTL_S, reserve=self._reserve
                )
                if claimed is None:
                    return
                job, queue = claimed
                if await self._answered(job, queue):
                    return
        except (StoreError, WorkerError, TimeoutError) as error:
            _log.warning("small job not done", job_id=str(job_id), error=f"{type(error).__name__}: {error}"[:300])
        except Exception:  # noqa: BLE001 - ours, or what Postgres says to this one: a worker finds out
            _log.exception("small job failed unexpectedly", job_id=str(job_id))
        if job is not None:
            await self._give_back(job)

    async def _answered(self, job: Claimed, queue: str) -> bool:
        """Whether the job is over here: it was ended, or is another's."""
        if (handler := self._coroutines.choose_small(job)) is None:
            return False
        options: dict[str, Any] = {}
        done = await self._coroutines.run_small(handler, job, options, timeout_s=HANDLER_S)
        document = document_of(
            job_id=job.job_id,
            device_id=job.device_id,
            request=RequestPart(job.name, job.size, job.content_version),
            handler=done.handler,
            answer=done.answer,
            files=[],
            finished_at=iso(wall()),
        )
        if (answer := carried(document)) is None:
            return False
        ours = await self._endings.answered(job, answer)
        _log.info("small job over", job_id=str(job.job_id), queue=queue, handler=done.handler, ours=ours)
        return True

    async def _give_back(self, job: Claimed) -> None:
        try:
            async with asyncio.timeout(_PARTING_S):
                await jobs.release(self._pool, [(job.job_id, job.lease_token)])
        except (StoreError, TimeoutError):
            pass  # the lease ends by itself

    def _reserve(self, request: responses.Request) -> responses.Home:
        return responses.Home(time_ordered_uuid(wall(), self._rand), self._store, responses.folder_of(request))


def main() -> int:
    """Until the input ends."""
    most = int(sys.argv[1])
    if not 1 <= most <= _MOST:
        raise SystemExit(f"not 1 to {_MOST} jobs at once")
    environ = dict(os.environ)
    try:
        settings = load(SmallJobChildSettings, environ)
    except SettingsError as error:
        sys.stderr.write(f"small jobs: settings are wrong\n{error}\n")
        return 2
    logs.configure("small-jobs", settings.log_level, json=settings.log_format == "json")
    return lifecycle.run(lambda stop: _serve(settings, environ, stop, most), environ=environ)


async def _serve(settings: SmallJobChildSettings, environ: dict[str, str], stop: Stop, most: int) -> int:
    rand = SystemRandom()
    working: dict[asyncio.Task[None], UUID] = {}
    async with AsyncExitStack() as closing:
        pool = await settings.open_pool(
            "small-jobs",
            prepared=(
                *small_claims.TRANSACTION_STATEMENTS,
                *jobs.TRANSACTION_STATEMENTS,
                *responses.TRANSACTION_STATEMENTS,
                *log.APPEND_STATEMENTS,
            ),
        )
        closing.push_async_callback(pool.close, timeout_s=2.0)
        publisher = Publisher(settings.redis_url, name="small-jobs")
        publishing = asyncio.create_task(publisher.run(), name="publisher")
        closing.callback(publishing.cancel)
        closing.push_async_callback(publisher.close)
        threads = FileThreads(1, deadline_s=HANDLER_S)
        closing.push_async_callback(threads.close)
        # Never started: small handlers have no file that a process could be given.
        processes = HandlerPool(1, environ=environ, rand=rand)
        coroutines = Coroutines(load_async_handlers([PingHandler()]), processes=processes, threads=threads)
        endings = Endings(pool, publisher, rand=rand, at_work=lambda: len(working))
        closing.push_async_callback(endings.close)
        small = SmallJobs(
            pool,
            coroutines,
            endings,
            worker=f"small-jobs-{os.getpid()}",
            store=settings.cloud_placement[0][0],
            rand=rand,
        )
        orders = await _input()
        _say("ready")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        while not stop.requested:
            reading = asyncio.create_task(_next(orders), name="order")
            await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() or (job_id := reading.result()) is None:
                reading.cancel()
                break
            if len(working) >= most:  # more than was agreed: they are the workers'
                _say(str(job_id))
                continue
            task = asyncio.create_task(small.do(job_id), name=f"job-{job_id}")
            working[task] = job_id
            task.add_done_callback(lambda task: _say(str(working.pop(task))))
        stopping.cancel()
        if working:
            await asyncio.wait(list(working), timeout=_PARTING_S)
    return 0


async def _input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LINE_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _next(orders: asyncio.StreamReader) -> UUID | None:
    """The next job, None at the end of the input or when it is no longer understood."""
    try:
        line = await orders.readline()
        return UUID(line.decode("ascii").strip()) if line else None
    except ValueError:
        return None


def _say(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        pass  # the parent is gone, and so will we be


if __name__ == "__main__":
    sys.exit(main())
