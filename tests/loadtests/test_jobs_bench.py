import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.jobs_bench.__main__ import HUNDREDS, ONE, TENS, judge, markdown, shapes, table_of
from loadtests.jobs_bench.ours import DEVICES, Ours, Shape, running_worker
from shared.store import devices
from shared.store.pool import Pool, open_pool

pytestmark = pytest.mark.processes


def report(**rates: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "side": side, "load": load, "jobs": 10, "seconds": 1.0, "jobs_per_s": rate, "worker_cpu_us": 1.0,
            "postgres_cpu_us": 1.0, "wrong": [], **({"begun_p50_ms": 4.0, "begun_p99_ms": 9.0} if load == ONE else {}),
        }
        for load, rate in ((ONE, 100), (TENS, rates["tens"]), (HUNDREDS, rates["hundreds"]))
        for side in ("fleetwire", "procrastinate")
    ]  # fmt: skip
    said = {"machine": "m", "python": "3", "date": "2026-01-01", "devices": 5, "versions": ["pgqueuer==1"]}
    return {"synchronous_commit": "on", "missing": {}, "rows": rows, **said}


def test_only_our_own_rates_are_judged_and_a_peer_that_is_not_there_is_said() -> None:
    held = report(tens=1000, hundreds=3000)
    assert judge(held) == []
    assert table_of(held).row_count == 6
    assert markdown(held).count("| fleetwire |") == 3
    slow = report(tens=999, hundreds=3000)
    slow["rows"][0]["begun_p50_ms"] = 5.1
    slow["missing"] = {"pgqueuer": "no network"}
    slow["rows"][-2]["wrong"] = ["a job with two events"]
    assert len(judge(slow)) == 4
    assert judge({**held, "synchronous_commit": "off"}) == ["synchronous_commit is off"]


def test_the_shapes_that_are_judged_are_run() -> None:
    assert {TENS, HUNDREDS} <= {shape.name for shape in shapes(0.01)}
    assert all(shape.jobs >= 20 for shape in shapes(0.0001))


async def test_what_is_queued_is_done_and_looked_at_one_by_one(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    pool: Pool = await open_pool(database_url, name="test", max_size=2)
    for number in range(DEVICES):
        await devices.ensure(pool, f"d{number}", "truck")
    servers = SimpleNamespace(postgres=SimpleNamespace(url=database_url), valkey=SimpleNamespace(url=redis_url))
    stand: Any = SimpleNamespace(folder=tmp_path, pids={"postgres": os.getpid()}, **vars(servers))
    with running_worker(stand, FLEETWIRE_WORKER_CONCURRENCY="20", FLEETWIRE_WORKER_POLL_S="0.1") as worker:
        async with Ours.on(stand) as ours:
            drained = await ours.drain(Shape("a", 30, 10, 20, 20, ahead=15), worker)
            assert (drained.jobs, drained.wrong) == (30, [])
            written = await ours.drain(Shape("b", 5, 5, 20, 20, written=True), worker)
            assert written.wrong == []
            assert len(list(tmp_path.glob("cloud/Responses/*/*/response.json"))) == 5
            single, begun = await ours.one_by_one(3, worker)
            assert (single.wrong, begun.count) == ([], 3)
            # What did not happen as it should is seen.
            await pool.fetch("UPDATE jobs SET current_status = 'queued' WHERE name = 'a.noop'")
            rows = await pool.fetch("SELECT job_id FROM jobs WHERE name = 'a.noop'")
            assert len(await ours.verify([row[0] for row in rows])) == 5
    await pool.close()
