import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.cloud.placement import Placement
from shared.store import jobs
from shared.store.jobs import Claimed
from shared.store.pool import Pool
from shared.telemetry.metrics import REGISTRY
from tests.shared.store.test_jobs import new_job, put, status
from tests.worker.rig import until
from worker.held_jobs import HeldJobs
from worker.homes import Homes
from worker.job_loop import JobLoop, LoopLimits


class Runner:
    """Holds every job until it is let go of."""

    def __init__(self) -> None:
        self.running: dict[str, asyncio.Event] = {}
        self.most = 0

    async def run(self, job: Claimed, queue: str) -> None:
        del queue
        event = self.running[job.name] = asyncio.Event()
        self.most = max(self.most, len(self.running))
        try:
            await event.wait()
        finally:
            del self.running[job.name]


class Handlers:
    ready = 1


class Hints:
    """A queue's hints, and whether anybody listens."""

    def __init__(self) -> None:
        self.asked = self.rested = 0
        self.left = False
        self.queue: asyncio.Queue[UUID] = asyncio.Queue()

    async def wait(self, timeout_s: float, *, count: int = 50) -> list[UUID]:
        del timeout_s, count
        self.asked += 1
        return [await self.queue.get()]

    async def rest(self) -> None:
        self.rested += 1

    async def close(self) -> None:
        self.left = True


class Rig:
    def __init__(self, pool: Pool, *, queues: list[str], concurrency: int, poll_s: float, device_running: int) -> None:
        self.runner, self.handlers = Runner(), Handlers()
        self.held = HeldJobs(pool, lease_s=60, heartbeat_s=20, rand=Random(1))
        runner: Any = self.runner
        handlers: Any = self.handlers
        self.loop = JobLoop(
            pool=pool,
            queues=queues,
            worker="w1",
            runner=runner,
            held=self.held,
            handlers=handlers,
            limits=LoopLimits(concurrency, 60, 3600, poll_s, depth_s=0.02, device_running=device_running),
            homes=Homes(Placement([("local", 1.0)]), first="local", rand=Random(1)),
            rand=Random(1),
        )
        self.task = asyncio.create_task(self.loop.run())

    async def close(self) -> None:
        self.loop.stop_claiming()
        await self.loop.finish(0)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


Make = Callable[..., Rig]


@pytest.fixture
async def make(pool: Pool) -> AsyncIterator[Make]:
    made: list[Rig] = []

    def start(
        queues: list[str] | None = None, concurrency: int = 3, poll_s: float = 0.05, device_running: int = 0
    ) -> Rig:
        names = queues or ["requests"]
        made.append(Rig(pool, queues=names, concurrency=concurrency, poll_s=poll_s, device_running=device_running))
        return made[-1]

    yield start
    for rig in made:
        await rig.close()


async def test_no_more_jobs_are_held_than_there_is_room_for(pool: Pool, make: Make) -> None:
    await put(pool, *(new_job(str(n)) for n in range(7)))
    rig = make(concurrency=3)
    for _ in range(7):
        await until(lambda: rig.runner.running)
        next(iter(rig.runner.running.values())).set()
        await asyncio.sleep(0)
    await until(lambda: not rig.runner.running)
    assert rig.runner.most <= 3
    assert (await jobs.depth(pool, "requests")).waiting == 0


async def test_a_wake_up_brings_a_claim_long_before_the_poll(pool: Pool, make: Make) -> None:
    rig = make(poll_s=60)
    await until(lambda: rig.loop.database_problem is None)
    await put(pool, new_job("a"))
    rig.loop.wake()
    await until(lambda: "a" in rig.runner.running, 3)


async def test_a_device_whose_jobs_are_bounded_gets_its_next_when_one_ends_and_waits_for_no_poll(
    pool: Pool, make: Make
) -> None:
    await put(pool, *(new_job(str(n)) for n in range(7)))
    rig = make(concurrency=10, poll_s=600, device_running=2)
    seen: set[str] = set()
    while len(seen) < 7:
        (name, *_) = await until(lambda: rig.runner.running.keys() - seen)
        seen.add(name)
        await pool.fetch("UPDATE jobs SET current_status = 'done' WHERE name = $1", name)
        rig.runner.running[name].set()
    await until(lambda: not rig.runner.running)
    assert rig.runner.most == 2


async def test_no_queue_starves_another(pool: Pool, make: Make) -> None:
    await put(pool, *(new_job(f"a{n}") for n in range(20)), *(new_job(f"b{n}", queue="ai") for n in range(2)))
    rig = make(["requests", "ai"], concurrency=1)
    seen: list[str] = []
    while len(seen) < 6:
        await until(lambda: rig.runner.running)
        name, event = next(iter(rig.runner.running.items()))
        seen.append(name)
        event.set()
        await until(lambda name=name: name not in rig.runner.running)
    assert {"b0", "b1"} <= set(seen)


async def test_hints_are_left_to_others_while_there_is_no_room(pool: Pool, make: Make) -> None:
    await put(pool, new_job("a"))
    rig = make(concurrency=1)
    await until(lambda: "a" in rig.runner.running)
    hints = Hints()
    listening = asyncio.create_task(rig.loop.listen(hints))
    await until(lambda: hints.rested)
    assert hints.asked == 0
    rig.runner.running["a"].set()
    await until(lambda: hints.asked == 1)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_a_worker_that_stops_leaves_hints_to_others_and_says_of_none_that_it_was_used(
    pool: Pool, make: Make
) -> None:
    await put(pool, new_job("a"))
    rig = make(concurrency=2)
    await until(lambda: "a" in rig.runner.running)
    hints = Hints()
    listening = asyncio.create_task(rig.loop.listen(hints))
    await until(lambda: hints.asked == 1)
    rig.loop.stop_claiming()
    hints.queue.put_nowait(uuid4())
    await asyncio.wait([listening], timeout=2)  # the job goes on, and so does what was begun for it
    assert (listening.done(), hints.left, hints.asked) == (True, True, 1)


async def test_nothing_is_claimed_while_no_process_can_run_it(pool: Pool, make: Make) -> None:
    rig = make()
    rig.handlers.ready = 0
    (job_id,) = await put(pool, new_job("a"))
    for _ in range(3):
        rig.loop.wake()
        await asyncio.sleep(0.03)
    assert await status(pool, job_id) == "queued"
    rig.handlers.ready = 1
    await until(lambda: "a" in rig.runner.running)


async def test_what_does_not_end_in_time_is_given_back(pool: Pool, make: Make) -> None:
    quick, slow = await put(pool, new_job("quick"), new_job("slow"))
    rig = make()
    await until(lambda: len(rig.runner.running) == 2)
    rig.loop.stop_claiming()
    later = (await put(pool, new_job("later")))[0]
    rig.runner.running["quick"].set()
    await rig.loop.finish(0.2)
    assert await status(pool, slow) == "retry"
    assert await status(pool, quick) == "running"  # this runner ends nothing
    assert await status(pool, later) == "queued"
    assert len(rig.held) == 0


async def test_it_is_not_ready_before_the_database_was_asked(make: Make) -> None:
    rig = make()
    assert rig.loop.database_problem is not None
    await until(lambda: rig.loop.database_problem is None)


async def test_a_depth_that_cannot_be_measured_is_not_said(make: Make, pool: Pool) -> None:
    rig = make(["depths"])
    measuring = asyncio.create_task(rig.loop.watch_depth())

    def said(what: str) -> object:
        return REGISTRY.get_sample_value(f"fleetwire_worker_{what}", {"queue": "depths"})

    await until(lambda: said("queued") == 0.0)
    await pool.fetch("ALTER TABLE jobs RENAME TO elsewhere")
    await until(lambda: (said("queued"), said("queued_oldest_seconds")) == (None, None))
    await pool.fetch("ALTER TABLE elsewhere RENAME TO jobs")
    await until(lambda: said("queued") == 0.0)
    measuring.cancel()
    await asyncio.gather(measuring, return_exceptions=True)
