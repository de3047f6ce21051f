"""Small jobs done by a child of the API: claimed, ended and told as by any worker, or left to the workers whole."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Final
from uuid import UUID, uuid4

import pytest

from shared.bus.message import Message
from shared.cloud.threads import FileThreads
from shared.store import devices, jobs, log, small_claims
from shared.store.jobs import Claimed, InlineJob
from shared.store.pool import Pool
from shared.store.responses import Home, Request, folder_of
from tests.shared.store.test_jobs import claim, new_job, put, status, until_claimed
from tests.worker.rig import ROOT, until
from worker.coroutines import Coroutines
from worker.endings import Endings
from worker.handlers.async_contract import AsyncHandler, Context
from worker.handlers.contract import Answer, Task
from worker.handlers.ping import PingHandler
from worker.pool import HandlerPool
from worker.small_jobs import SmallJobs


class Bus:
    def __init__(self) -> None:
        self.offered: list[Message] = []

    def offer(self, message: Message) -> None:
        self.offered.append(message)


class Breaks:
    """A small handler that does what its request says."""

    kind: Final = "breaks"
    extensions: Final[frozenset[str]] = frozenset()
    small: Final = True

    async def handle(self, task: Task, context: Context) -> Answer:
        del context
        if task.body == b"long":
            return Answer("processed", summary={"text": "x" * 60_000})
        raise RuntimeError("as asked")


class Large(PingHandler):
    """One that is not small."""

    kind: Final = "large"  # type: ignore[misc]
    small: Final = False  # type: ignore[misc]


def coroutines(*handlers: AsyncHandler) -> Coroutines:
    processes = HandlerPool(1, environ={}, rand=Random(1))
    return Coroutines(handlers, processes=processes, threads=FileThreads(1, deadline_s=5))


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
async def small(pool: Pool, bus: Bus) -> AsyncIterator[SmallJobs]:
    endings = Endings(pool, bus, rand=Random(1), tries=2, pause_s=0.01)
    handlers = coroutines(PingHandler(), Breaks(), Large())
    yield SmallJobs(pool, handlers, endings, worker="small-1", store="local", rand=Random(2))
    await endings.close()


async def asked(pool: Pool, kind: str = "ping", body: str = "x", device_id: str = "d1") -> UUID:
    """A job whose request came with the call."""
    await devices.ensure(pool, device_id, "truck")
    job = InlineJob(
        uuid4(), "requests", kind, device_id, "local", "", f"a.{kind}", len(body), "0" * 64, body, "device:d1"
    )
    assert await jobs.insert_inline(pool, job) == "made"
    return job.job_id


async def take(pool: Pool, job_id: UUID, lease_s: float = 20) -> Claimed | None:
    def reserve(request: Request) -> Home:
        return Home(uuid4(), "local", folder_of(request))

    found = await small_claims.claim_new(pool, job_id, "small-1", lease_s=lease_s, ttl_s=60, reserve=reserve)
    return found[0] if found else None


async def events(pool: Pool, device_id: str = "d1") -> list[dict[str, object]]:
    pages = await log.read_pages(pool, [log.PageRequest(device_id, 0, 100, 10**7)])
    return [json.loads(event.body)["data"] for event in pages[device_id].events]


async def test_a_job_whose_end_cannot_be_written_is_given_back_at_once(pool: Pool, small: SmallJobs) -> None:
    job_id = await asked(pool)
    await pool.fetch("ALTER TABLE jobs ADD CONSTRAINT none_of_it CHECK (current_status <> 'done')")
    await small.do(job_id)
    assert await status(pool, job_id) == "retry"


async def test_a_small_job_is_answered_within_its_event(pool: Pool, small: SmallJobs, bus: Bus) -> None:
    job_id = await asked(pool)
    await small.do(job_id)
    assert await status(pool, job_id) == "done"
    (event,) = await events(pool)
    assert (event["job_id"], event["files"]) == (str(job_id), [])
    assert len(bus.offered) == 1
    history = [(row.status, row.worker) for row in await jobs.history(pool, job_id)]
    assert history == [("done", "small-1"), ("running", "small-1"), ("queued", None)]
    await small.do(job_id)  # handed over twice, as when its request was repeated
    assert len(await events(pool)) == 1


@pytest.mark.parametrize(("kind", "body"), [("large", "x"), ("nobodys", "x"), ("breaks", "x"), ("breaks", "long")])
async def test_what_is_not_a_short_answer_is_given_back_as_if_nobody_had_tried(
    pool: Pool, small: SmallJobs, kind: str, body: str
) -> None:
    job_id = await asked(pool, kind, body)
    await small.do(job_id)
    job = await jobs.get(pool, job_id)
    assert job is not None
    assert (job.current_status, job.attempts) == ("retry", 0)
    assert await events(pool) == []
    assert [one.job_id for one in await claim(pool)] == [job_id]


async def test_only_what_nobody_took_is_claimed_by_its_id(pool: Pool) -> None:
    first, second = await asked(pool), await asked(pool)
    (with_file,) = await put(pool, new_job("f"))
    assert await take(pool, with_file) is None
    assert await take(pool, uuid4()) is None
    both = await asyncio.gather(*(take(pool, first) for _ in range(8)))
    assert len([one for one in both if one]) == 1
    assert {one.job_id for one in await claim(pool, limit=10)} == {second, with_file}
    assert await take(pool, second) is None


async def test_a_job_of_a_helper_that_died_is_a_workers_once_its_lease_is_over(pool: Pool) -> None:
    job_id = await asked(pool)
    held = await take(pool, job_id, lease_s=0.1)
    assert held is not None
    (heir,) = await until_claimed(pool, "heir")
    assert heir.job_id == job_id
    assert (heir.lease_token, heir.attempt, heir.folder) == (held.lease_token + 1, 2, held.folder)
    bus = Bus()
    endings = Endings(pool, bus, rand=Random(1))
    assert not await endings.answered(held, {"outcome": "processed"})
    assert await endings.answered(heir, {"outcome": "processed"})
    assert len(await events(pool)) == len(bus.offered) == 1


async def test_the_process_says_what_is_over_and_ends_with_its_input(
    pool: Pool, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    environ = {"FLEETWIRE_DATABASE_URL": database_url, "FLEETWIRE_REDIS_URL": redis_url, "FLEETWIRE_DB_POOL_MAX": "2"}
    with (tmp_path / "log").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "worker.small_jobs",
            "2",
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environ},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=said,
        )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(40):
            assert await process.stdout.readline() == b"ready\n", (tmp_path / "log").read_text()
            wanted = [await asked(pool), await asked(pool, "table", "a,b\n1,2\n"), uuid4()]
            process.stdin.write("".join(f"{one}\n" for one in wanted).encode())
            over = {UUID((await process.stdout.readline()).decode().strip()) for _ in wanted}
            assert over == set(wanted)
            await until(lambda: _is(pool, wanted[0], "done"))
            assert await status(pool, wanted[1]) in ("queued", "retry")
            process.stdin.close()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _is(pool: Pool, job_id: UUID, wanted: str) -> bool:
    return await status(pool, job_id) == wanted
