"""Workers as processes come and go by the jobs that wait in Postgres, for each queue apart."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from infra.onebox.autoscale import Autoscale
from infra.onebox.log_lines import LogLines
from infra.onebox.plan import Process
from infra.onebox.ports import PortWish, settle
from infra.onebox.process_set import ProcessSet
from infra.onebox.supervisor import Supervisor
from infra.onebox.worker_set import Depths, WorkerPolicy
from infra.scaling.steadiness import Step
from infra.scaling.worker_policy import WorkerDecision, WorkerRules, WorkerScaler
from shared.store import devices, jobs
from shared.store.jobs import NewJob
from shared.store.pool import Pool, open_pool
from tests.infra.onebox.conditions import until

pytestmark = pytest.mark.processes

RULES = WorkerRules(target=10, workers_min=2, workers_max=4, quiet_s=0.0, up=Step(4, 1.0), down=Step(4, 1.0))


class Site:
    """No worker to begin with. The processes only look like workers, which are ready in a moment."""

    def __init__(self, folder: Path, database_url: str, queue: str) -> None:
        self.lines = LogLines(io.StringIO(), colour=False)
        self.supervisor = Supervisor(self.lines, Random(1))
        self.said: list[str] = []
        self.depths = Depths(database_url)
        self.workers = ProcessSet(
            self.supervisor,
            [],
            {**os.environ, "FLEETWIRE_TEST_FOLDER": str(folder), "FLEETWIRE_HUB_NAME": "none"},
            make=self.make,
            tier=1,
            on_change=self.on_change,
            say=self.said.append,
            noun="worker",
            remove_deadline_s=10.0,
        )
        policy = WorkerPolicy(self.workers, WorkerScaler(queue, RULES), self.depths)
        self.autoscale = Autoscale(self.workers, policy, period_s=30.0, say=self.said.append, rand=Random(1))

    def make(self, number: int) -> Process:
        [port] = settle([PortWish("operations", 0, "")])
        return Process(f"worker-{number}", "tests.infra.onebox.hub_double", port)

    def on_change(self, workers: Sequence[Process]) -> None:
        self.names = [worker.name for worker in workers]

    async def look_until(self, holds: Callable[[WorkerDecision], bool]) -> WorkerDecision:
        """Look again and again: on a busy machine an answer may be too late, which changes nothing."""
        async with asyncio.timeout(30):
            while not holds(decision := await self.autoscale.look()):
                pass
        return decision


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=2)
    yield opened
    await opened.close()


@pytest.fixture
async def site(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    site = Site(tmp_path, database_url, "ai")
    yield site
    await site.workers.close()
    await site.depths.close()
    await site.supervisor.stop(5.0)
    site.lines.close()


async def queue_jobs(pool: Pool, queue: str, count: int) -> None:
    await devices.ensure(pool, "truck-1", "truck")
    async with pool.transaction() as connection:
        await jobs.insert_jobs(
            connection,
            [
                NewJob(uuid4(), queue, "unknown", "truck-1", "local", f"Requests/truck-1/{n}", str(n), 1, "v")
                for n in range(count)
            ],
        )


async def test_workers_follow_the_depth_of_their_own_queue(site: Site, pool: Pool) -> None:
    await queue_jobs(pool, "requests", 100)
    await site.look_until(lambda decision: decision.current == 2)
    assert site.said[0] == (
        "adding a worker: 0 jobs wait in ai, 0 workers (target 10 each); 0 workers would do, 2 is the fewest"
    )
    await queue_jobs(pool, "ai", 35)
    await site.look_until(lambda decision: decision.current == 4)
    assert site.names == ["worker-1", "worker-2", "worker-3", "worker-4"]
    assert "worker-4 is ready and takes jobs" in site.said
    await pool.fetch("UPDATE jobs SET current_status = 'running' WHERE queue = 'ai'")
    await site.look_until(lambda decision: decision.change < 0)
    await until(lambda: site.names == ["worker-1", "worker-2"] and not site.workers.leaving)
    assert (await site.look_until(lambda decision: decision.waiting is not None)).change == 0


async def test_a_depth_that_cannot_be_read_removes_nobody(site: Site, pool: Pool, database_url: str) -> None:
    await queue_jobs(pool, "ai", 100)
    await site.look_until(lambda decision: decision.current == 4)
    policy = WorkerPolicy(site.workers, WorkerScaler("ai", RULES), Depths("postgresql://u:p@127.0.0.1:1/d"))
    decisions = [await policy.decide(now) for now in (0.0, 1000.0, 2000.0)]
    assert [(decision.waiting, decision.change) for decision in decisions] == [(None, 0)] * 3
    assert decisions[0].why == "nobody knows how many jobs wait in ai"
