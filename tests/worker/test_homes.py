"""Where responses go: by weight, elsewhere while a store is down, and never announced from where they did not stay."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from shared.clock import monotonic
from shared.cloud.errors import CloudError, Misconfigured, StoreBusy, StoreUnavailable
from shared.cloud.hashes import Digest
from shared.cloud.local import LocalStore
from shared.cloud.local_provider import LocalProvider
from shared.cloud.placement import Placement
from shared.cloud.store import Existed, Source, Stored
from shared.cloud.threads import FileThreads
from shared.store import items, jobs, responses
from shared.store.jobs import Claimed
from shared.store.pool import Pool
from shared.store.responses import Home, Request, folder_of
from tests.worker.rig import DEVICE, Cloud
from worker.coroutines import Coroutines
from worker.endings import Endings
from worker.held_jobs import HeldJobs
from worker.homes import Homes
from worker.job_runner import JobRunner, RunnerLimits
from worker.pool import HandlerPool, PoolLimits
from worker.retry import RetryPolicy
from worker.scratch import Scratch

RESPONSE_ID = UUID(int=7)


class Bus:
    def offer(self, message: object) -> None:
        pass


class Failing(LocalStore):
    """A store on a disk of its own, which can be down; `puts` counts what it was asked to take."""

    down = False
    refuses = False
    """Its credentials ran out."""
    busy = False
    loses_answers_from = 10**9
    puts = 0

    async def put_new(self, path: str, source: Source, *, expect: Digest | None = None) -> Stored | Existed:
        self.puts += 1
        if self.busy:
            raise StoreBusy("too many calls wait")
        self._check()
        put = await super().put_new(path, source, expect=expect)
        if self.puts >= self.loses_answers_from:
            raise StoreUnavailable("the answer was lost")
        return put

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("down")
        if self.refuses:
            raise Misconfigured("the key may not do this")

    async def stat(self, path: str) -> Any:
        self._check()
        return await super().stat(path)


@pytest.fixture
async def second(tmp_path: Path) -> AsyncIterator[Failing]:
    (tmp_path / "second").mkdir()
    opened = Failing(tmp_path / "second", tmp_path / "second-tmp", name="drive")
    yield opened
    await opened.close()


class Rig:
    """One worker's parts, without its loops: every job is placed in `drive` first."""

    def __init__(
        self, pool: Pool, handlers: HandlerPool, store: LocalProvider, second: Failing, tmp_path: Path
    ) -> None:
        rand = Random(1)
        self.pool = pool
        self.placement = Placement([("drive", 1.0), ("local", 0.0)])
        self.homes = Homes(self.placement, first="drive", rand=rand)
        self.held = HeldJobs(pool, lease_s=60, heartbeat_s=20, rand=rand)
        self.threads = FileThreads(2)
        self.runner = JobRunner(
            pool=pool,
            sources={"local": store},
            stores={"local": store, "drive": second},
            handlers=handlers,
            coroutines=Coroutines([], processes=handlers, threads=self.threads),
            held=self.held,
            homes=self.homes,
            endings=Endings(pool, Bus(), rand=rand),
            scratch=Scratch(tmp_path / "scratch"),
            threads=self.threads,
            limits=RunnerLimits(handler_s=30, input_bytes=10**6),
            policy=RetryPolicy(5, 0.05, 0.05, floor_s=0.01),
            options={},
            rand=rand,
        )

    async def claim(self) -> Claimed:
        def reserve(request: Request) -> Home:
            return Home(RESPONSE_ID, self.homes.choose(), folder_of(request))

        async with asyncio.timeout(20):
            while not (
                found := await jobs.claim(self.pool, "requests", "w1", limit=1, lease_s=60, ttl_s=600, reserve=reserve)
            ):
                await asyncio.sleep(0.01)
        return found[0]

    async def attempt(self) -> Claimed:
        job = await self.claim()
        task = asyncio.create_task(asyncio.sleep(0))
        self.held.add(job, "requests", claimed_at=monotonic(), task=task)
        await self.runner.run(job, "requests")
        self.held.remove(job)
        return job


@pytest.fixture
async def rig(
    pool: Pool, store: LocalProvider, second: Failing, environ: dict[str, str], tmp_path: Path
) -> AsyncIterator[Rig]:
    limits = PoolLimits(memory=10**9, recycle_resident=10**9, recycle_after=100, nice=0)
    handlers = HandlerPool(1, environ=environ, limits=limits, noop=False, rand=Random(1))
    await handlers.start()
    made = Rig(pool, handlers, store, second, tmp_path)
    yield made
    await handlers.close()
    await made.threads.close()


async def where(pool: Pool, job_id: UUID) -> tuple[str, str | None, set[str]]:
    """The store of the response, its outcome, and the stores of its files."""
    (row,) = await pool.fetch("SELECT store, outcome FROM responses WHERE job_id = $1", job_id)
    files = await pool.fetch("SELECT store FROM response_files WHERE response_id = $1", RESPONSE_ID)
    return row["store"], row["outcome"], {file["store"] for file in files}


async def test_a_response_is_written_where_it_was_placed(rig: Rig, cloud: Cloud, tmp_path: Path) -> None:
    job_id = await cloud.request("a.csv", "x,y\n1,2\n", kind="table")
    await rig.attempt()
    assert await where(rig.pool, job_id) == ("drive", "ready", {"drive"})
    assert (tmp_path / "second" / "Responses" / DEVICE / f"a.{job_id}" / "response.json").exists()
    assert not (tmp_path / "cloud" / "Responses").exists()


@pytest.mark.parametrize("refuses", [False, True], ids=["down", "refuses"])
async def test_a_store_that_takes_nothing_loses_the_response_to_the_next_one_within_the_attempt(
    rig: Rig, cloud: Cloud, second: Failing, tmp_path: Path, refuses: bool
) -> None:
    second.down, second.refuses = not refuses, refuses
    job_id = await cloud.request("a.csv", "x,y\n1,2\n", kind="table")
    await rig.attempt()
    job = await cloud.ended(job_id)
    assert (job.current_status, job.attempts) == ("done", 1)
    assert await where(rig.pool, job_id) == ("local", "ready", {"local"})
    cloud.verify(await cloud.event_of(job_id), job_id)


async def test_what_was_written_before_a_store_failed_is_never_taken_for_somebody_elses(
    rig: Rig, cloud: Cloud, second: Failing, tmp_path: Path
) -> None:
    second.loses_answers_from = 2
    job_id = await cloud.request("a.csv", "x,y\n1,2\n", kind="table")
    await rig.attempt()
    assert await where(rig.pool, job_id) == ("local", "ready", {"local"})
    folder = f"Responses/{DEVICE}/a.{job_id}"
    assert list((tmp_path / "second" / folder).iterdir()), "some of it came to lie there"
    await rig.pool.fetch("INSERT INTO feeds (feed_id, provider, root) VALUES ('drive', 'drive', 'r')")
    async with rig.pool.transaction() as connection:
        (facts,) = await items.facts(connection, "drive", [("drive", f"{folder}/response.json", DEVICE, folder)])
    assert facts.reserved
    assert await items.reserved_folders(rig.pool, "drive", "drive", [folder]) == {folder}


async def test_a_response_that_stands_in_a_store_that_is_up_again_is_adopted(
    rig: Rig, cloud: Cloud, second: Failing
) -> None:
    job_id = await cloud.request("a.csv", "x,y\n1,2\n", kind="table")
    second.busy = True
    first = await rig.attempt()
    assert first.response_store == "drive"
    assert (await cloud.job(job_id)).current_status == "retry", "our own threads say nothing of the store"
    second.busy = False
    again = await rig.attempt()
    assert again.response_store == "drive"
    assert await where(rig.pool, job_id) == ("drive", "ready", {"drive"})


async def test_an_attempt_that_lost_its_lease_moves_nothing(rig: Rig, cloud: Cloud, second: Failing) -> None:
    job_id = await cloud.request("a.csv", "x,y\n1,2\n", kind="table")
    job = await rig.claim()
    async with rig.pool.transaction() as connection:
        assert not await responses.replace(connection, job_id, job.lease_token - 1, "local")
        assert await responses.replace(connection, job_id, job.lease_token, "local")
        assert await responses.replace(connection, job_id, job.lease_token, "local")
        assert await responses.replace(connection, job_id, job.lease_token, "drive")
    assert (await where(rig.pool, job_id))[0] == "drive"
    left = await rig.pool.fetch("SELECT store FROM left_places ORDER BY store")
    assert [row["store"] for row in left] == ["drive", "local"]


@pytest.mark.parametrize("refuses", [False, True], ids=["down", "refuses"])
async def test_with_nowhere_else_to_go_the_job_is_tried_again_later(
    rig: Rig, cloud: Cloud, second: Failing, refuses: bool
) -> None:
    second.down, second.refuses = not refuses, refuses
    for _ in range(10):
        rig.placement.failed("local", now=monotonic())
    job_id = await cloud.request("a.csv", "x,y\n1,2\n", kind="table")
    for _ in range(7):
        await rig.attempt()
    job = await cloud.job(job_id)
    # More attempts than a job has; but it was none of its faults.
    assert (job.current_status, job.attempts) == ("retry", 0)
    assert (await where(rig.pool, job_id))[:2] == ("drive", None)


async def test_a_worker_that_does_not_know_the_store_costs_the_job_no_attempt(rig: Rig, cloud: Cloud) -> None:
    job_id = await cloud.request("a.csv", "x,y\n1,2\n", kind="table")
    await rig.pool.fetch("UPDATE jobs SET store = 'sharepoint' WHERE job_id = $1", job_id)
    for _ in range(7):
        await rig.attempt()
    job = await cloud.job(job_id)
    assert (job.current_status, job.attempts) == ("retry", 0)


@pytest.mark.parametrize("error", [StoreUnavailable("down"), Misconfigured("the key may not do this")])
def test_new_responses_go_elsewhere_while_a_store_fails(error: CloudError) -> None:
    homes = Homes(Placement([("drive", 9.0), ("local", 1.0)]), first="drive", rand=Random(3))
    assert {homes.choose() for _ in range(50)} == {"drive", "local"}
    for _ in range(10):
        with pytest.raises(type(error)), homes.watched("drive"):
            raise error
    assert {homes.choose() for _ in range(50)} == {"local"}
    assert homes.instead_of({"local"}) is None
