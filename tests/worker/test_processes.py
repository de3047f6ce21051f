"""Whole workers: real processes, real Postgres, killed and stopped at the worst moments."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import pytest
from PIL import Image

from shared.store import devices, jobs
from tests.worker.rig import DEVICE, Cloud, WorkerProcess, alive, until

Start = Callable[..., WorkerProcess]
pytestmark = pytest.mark.processes


@asynccontextmanager
async def log_locked(cloud: Cloud) -> AsyncIterator[None]:
    """While it lasts (for at most 5 s) a worker can claim jobs and write responses, and no event can be recorded."""
    async with cloud.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetch("SELECT FROM devices FOR NO KEY UPDATE")
        try:
            yield
        finally:
            await transaction.rollback()


async def committing(cloud: Cloud, job_id: UUID) -> None:
    """response.json has appeared, and the transaction that ends the job has begun and waits for the lock."""
    await until(lambda: list((cloud.root / "Responses").glob(f"*/*.{job_id}/response.json")))
    waits = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND application_name LIKE 'fleetwire-first%'"
    )

    async def waiting() -> bool:
        return bool(await cloud.pool.fetch(waits))

    await until(waiting)


def runs(cloud: Cloud, name: str) -> int:
    """How often the counting handler ran for the file."""
    ledger = cloud.root.parent / "ledger"
    return ledger.read_text().split().count(name) if ledger.exists() else 0


async def test_requests_come_back_as_responses_and_events(cloud: Cloud, worker_process: Start) -> None:
    image = cloud.root.parent / "photo.jpg"
    Image.linear_gradient("L").resize((3000, 2000)).save(image)
    ids = {
        "photo": await cloud.request("load.jpg", image.read_bytes(), kind="photo"),
        "table": await cloud.request("weights.csv", "a,b\n1,2\n3,4\n", kind="table"),
        "broken": await cloud.request("broken.jpg", image.read_bytes()[:5000], kind="photo"),
        "unknown": await cloud.request("plan.dwg", b"AC1032 drawing"),
        "noop": await cloud.request("nothing.noop", b""),
    }
    worker = worker_process()
    jobs_ended = {name: await cloud.ended(job_id) for name, job_id in ids.items()}
    assert {job.current_status for job in jobs_ended.values()} == {"done"}, worker.log()
    outcomes = {name: cloud.document(job_id)["outcome"] for name, job_id in ids.items()}
    assert outcomes == {
        "photo": "processed", "table": "processed", "broken": "unreadable", "unknown": "unknown", "noop": "processed",
    }  # fmt: skip
    assert [file["name"] for file in cloud.document(ids["photo"])["files"]] == [
        "photo.jpg", "thumbnail.jpg", "metadata.json",
    ]  # fmt: skip
    assert cloud.folder(ids["photo"]).name == f"load.{ids['photo']}"
    for job_id in ids.values():
        cloud.verify(await cloud.event_of(job_id), job_id)
    worker.terminate()
    assert await worker.wait() == 0
    assert list((cloud.root.parent / "worker-tmp").iterdir()) == []


async def test_a_worker_killed_between_its_response_and_the_commit_leaves_one_of_each(
    cloud: Cloud, worker_process: Start
) -> None:
    first = worker_process("first")
    await first.ready()
    await devices.ensure(cloud.pool, DEVICE, "truck")
    async with log_locked(cloud):
        job_id = await cloud.request("a.count", "x")
        await committing(cloud, job_id)
        children = first.children()
        first.kill()
    before = (cloud.folder(job_id) / "response.json").read_bytes()
    assert (await cloud.job(job_id)).current_status == "running"
    second = worker_process("second")
    job = await cloud.ended(job_id)
    assert (job.current_status, job.worker, job.attempts) == ("done", "second", 2), second.log()
    assert (cloud.folder(job_id) / "response.json").read_bytes() == before
    assert runs(cloud, "a.count") == 1
    cloud.verify(await cloud.event_of(job_id), job_id)
    assert len(await cloud.events()) == 1
    await until(lambda: not any(alive(pid) for pid in children))


async def test_a_worker_killed_while_its_handler_runs_is_followed_by_another(
    cloud: Cloud, worker_process: Start
) -> None:
    job_id = await cloud.request("a.hang", "x")
    first = worker_process("first")
    await first.ready()

    async def running() -> bool:
        return (await cloud.job(job_id)).current_status == "running"

    await until(running)
    first.kill()
    worker_process("second", worker_handler_s=0.5, worker_max_attempts=2)
    job = await cloud.ended(job_id)
    assert job.current_status == "dead"
    event = await cloud.event_of(job_id)
    assert event["type"] == "RequestFailed"
    assert "HandlerTimedOut" in event["data"]["reason"]


@pytest.mark.timeout(120)
async def test_a_worker_stopped_for_longer_than_its_lease_changes_nothing_when_it_wakes(
    cloud: Cloud, worker_process: Start
) -> None:
    """Stopped inside the transaction that ends the job; another ends it; the first wakes up."""
    first = worker_process("first")
    await first.ready()
    await devices.ensure(cloud.pool, DEVICE, "truck")
    async with log_locked(cloud):
        job_id = await cloud.request("a.count", "x")
        await committing(cloud, job_id)
        first.pause()
    second = worker_process("second")
    await second.ready()
    bystander = await cloud.request("c.noop", "", device_id="truck-8")
    assert (await cloud.ended(bystander, deadline_s=15)).worker == "second"
    job = await cloud.ended(job_id)
    assert job.worker == "second"
    first.resume()
    other_id = await cloud.request("b.count", "y")
    second.terminate()
    assert (await cloud.ended(other_id)).current_status == "done"
    await until(lambda: "abandoned" in first.log() or "lost" in first.log() or "no longer ours" in first.log())
    assert (await cloud.job(job_id)) == job
    assert len(await cloud.events()) == 2
    assert runs(cloud, "a.count") == 1
    cloud.verify(await cloud.event_of(job_id), job_id)


async def test_a_worker_stopped_while_it_handles_loses_the_job_and_writes_no_second_response(
    cloud: Cloud, worker_process: Start
) -> None:
    first = worker_process("first")
    await first.ready()
    gate = cloud.root.parent / "gate"
    job_id = await cloud.request("a.gated", str(gate))
    await until(lambda: gate.with_suffix(".waiting").exists())
    first.pause()
    os.kill(first.children()[0], signal.SIGSTOP)
    second = worker_process("second")
    gate.touch()
    job = await cloud.ended(job_id)
    assert job.worker == "second", second.log()
    os.kill(first.children()[0], signal.SIGCONT)
    first.resume()
    await until(lambda: "lease of job lost" in first.log() or "abandoned" in first.log())
    other = await cloud.request("c.noop", "")
    assert (await cloud.ended(other)).current_status == "done"
    assert await cloud.job(job_id) == job
    document = cloud.document(job_id)
    assert {path.name for path in cloud.folder(job_id).iterdir()} >= {file["name"] for file in document["files"]}
    cloud.verify(await cloud.event_of(job_id), job_id)
    assert len(await cloud.events()) == 2


async def test_sigterm_lets_work_end_gives_the_rest_back_and_exits_zero(cloud: Cloud, worker_process: Start) -> None:
    worker = worker_process(worker_processes=2, worker_drain_s=1.0, ops_port=0)
    await worker.ready()
    gate = cloud.root.parent / "gate"
    short = await cloud.request("a.gated", str(gate))
    long = await cloud.request("b.hang", "x")
    await until(lambda: gate.with_suffix(".waiting").exists())

    async def both_running() -> bool:
        return {(await cloud.job(short)).current_status, (await cloud.job(long)).current_status} == {"running"}

    await until(both_running)
    later = None
    worker.terminate()
    await until(lambda: "stop requested" in worker.log())
    later = await cloud.request("c.noop", "")
    gate.touch()
    assert await worker.wait(20) == 0
    assert (await cloud.job(short)).current_status == "done"
    given_back = await cloud.job(long)
    assert (given_back.current_status, given_back.attempts) == ("retry", 0)
    assert (await cloud.job(later)).current_status == "queued"
    history = [line.detail for line in await jobs.history(cloud.pool, long)]
    assert history[0] == "released by a worker that stops"


async def test_a_handler_that_crashes_is_tried_again_then_dead_and_the_device_is_told(
    cloud: Cloud, worker_process: Start
) -> None:
    worker = worker_process(worker_max_attempts=3)
    crash = await cloud.request("a.crash", "x")
    good = await cloud.request("b.csv", "a,b\n1,2\n")
    job = await cloud.ended(crash)
    assert (job.current_status, job.attempts) == ("dead", 3), worker.log()
    assert job.error is not None
    assert "SIGKILL" in job.error
    event = await cloud.event_of(crash)
    assert (event["type"], event["data"]["request"]) == ("RequestFailed", {"name": "a.crash"})
    assert not (cloud.root / "Responses" / "truck-7" / f"a.{crash}").exists()
    assert (await cloud.ended(good)).current_status == "done"
    statuses = [line.status for line in await jobs.history(cloud.pool, crash)]
    assert statuses == ["dead", "running", "retry", "running", "retry", "running", "queued"]


async def test_a_job_that_takes_its_worker_along_every_time_is_dead_in_the_end(
    cloud: Cloud, worker_process: Start
) -> None:
    job_id = await cloud.request("a.noop", "")
    await cloud.pool.fetch(
        "UPDATE jobs SET current_status = 'running', attempts = 3, lease_token = 3, lease_until = clock_timestamp() "
        "WHERE job_id = $1",
        job_id,
    )
    worker_process(worker_max_attempts=3)
    job = await cloud.ended(job_id)
    assert job.current_status == "dead"
    assert job.error == "none of 3 attempts came to a result"
    assert (await cloud.event_of(job_id))["type"] == "RequestFailed"


async def test_a_response_that_stands_is_announced_even_after_the_last_attempt(
    cloud: Cloud, worker_process: Start
) -> None:
    job_id = await cloud.request("a.count", "x")
    first = worker_process("first")
    await cloud.ended(job_id)
    first.kill()
    # As if every ending had been lost: the response is there, the attempts are used up, no event was recorded.
    await cloud.pool.fetch("TRUNCATE response_files, responses, events, event_keys")
    await cloud.pool.fetch("UPDATE devices SET head_seq = 0")
    folder = cloud.folder(job_id).relative_to(cloud.root).as_posix()
    await cloud.pool.fetch(
        "INSERT INTO responses (response_id, device_id, job_id, request_name, store, folder) "
        "VALUES ($1, 'truck-7', $1, 'a.count', 'local', $2)",
        job_id,
        folder,
    )
    await cloud.pool.fetch("UPDATE jobs SET current_status = 'retry', attempts = 9, finished_at = NULL")
    worker_process("second", worker_max_attempts=3)
    assert (await cloud.ended(job_id)).current_status == "done"
    assert runs(cloud, "a.count") == 1
    cloud.verify(await cloud.event_of(job_id), job_id)


async def test_a_file_that_changed_or_went_away_is_answered_as_such(cloud: Cloud, worker_process: Start) -> None:
    changed = await cloud.request("a.csv", "a,b\n1,2\n")
    (cloud.root / "Requests/truck-7/a.csv").write_text("a,b\n9,9\n")
    longer = await cloud.request("b.csv", "a,b\n1,2\n")
    (cloud.root / "Requests/truck-7/b.csv").write_text("a,b\n1,2\n3,4\n")
    removed = await cloud.request("c.csv", "a,b\n1,2\n")
    (cloud.root / "Requests/truck-7/c.csv").unlink()
    linked = await cloud.request("d.csv", "a,b\n1,2\n")
    (cloud.root / "Requests/truck-7/d.csv").unlink()
    (cloud.root / "Requests/truck-7/d.csv").symlink_to("/etc/passwd")
    large = await cloud.request("e.csv", "x" * 1_500_000)
    worker_process(worker_input_mb=1)
    outcomes = []
    for job_id in (changed, longer, removed, linked, large):
        assert (await cloud.ended(job_id)).current_status == "done"
        outcomes.append(cloud.document(job_id)["outcome"])
        cloud.verify(await cloud.event_of(job_id), job_id)
    assert outcomes == ["changed", "changed", "removed", "changed", "too_large"]


async def test_a_cancelled_job_ends_its_handler(cloud: Cloud, worker_process: Start) -> None:
    from shared.job_events import request_failed
    from shared.store.log import NewEvent

    worker = worker_process(worker_lease_s=60, worker_heartbeat_s=20)
    await worker.ready()
    job_id = await cloud.request("a.hang", "x")

    async def running() -> bool:
        return (await cloud.job(job_id)).current_status == "running"

    await until(running)
    (child,) = worker.children()

    def announce(job: jobs.Cancelled) -> NewEvent:
        return request_failed(
            event_id=job.job_id, job_id=job.job_id, device_id=job.device_id, request_name=job.name,
            reason="cancelled", source="/test", time="2026-01-01T00:00:00Z",
        )  # fmt: skip

    assert await jobs.cancel(cloud.pool, job_id, reason="not needed", response_id=job_id, announce=announce) is not None
    # Its leases are renewed every twenty seconds: it is not by them that the worker knows.
    await until(lambda: not alive(child), 10)
    other = await cloud.request("b.noop", "")
    assert (await cloud.ended(other)).current_status == "done"
    assert (await cloud.job(job_id)).current_status == "cancelled"
    assert len(await cloud.events()) == 2


async def test_many_requests_by_two_workers_one_killed_again_and_again(cloud: Cloud, worker_process: Start) -> None:
    ids = [await cloud.request(f"{n}.count", str(n)) for n in range(40)]
    steady = worker_process("steady", worker_concurrency=2)
    await steady.ready()
    for number in range(3):
        victim = worker_process(f"victim-{number}", worker_concurrency=4)
        await victim.ready()
        before = len(await cloud.events())

        async def some_more(before: int = before) -> bool:
            return len(await cloud.events()) > before or before == len(ids)

        await until(some_more)
        victim.kill()
    for job_id in ids:
        assert (await cloud.ended(job_id)).current_status == "done", steady.log()
        cloud.verify(await cloud.event_of(job_id), job_id)
    assert len(await cloud.events()) == len(ids)
    assert len(list((cloud.root / "Responses").glob("*/*/response.json"))) == len(ids)


async def test_the_operations_port_says_when_and_why_it_is_not_ready(cloud: Cloud, worker_process: Start) -> None:
    from loadtests.ports import free_port

    port = free_port()
    worker = worker_process(ops_port=port)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

        async def ready() -> bool:
            try:
                return (await client.get("/ready")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ready)
        job_id = await cloud.request("a.csv", "a,b\n1,2\n")
        await cloud.ended(job_id)

        async def counted() -> bool:
            metrics = (await client.get("/metrics")).text
            return 'fleetwire_worker_finished_total{kind="table",outcome="processed",queue="requests"} 1.0' in metrics

        await until(counted)
        assert (await client.get("/health")).status_code == 200
        hang = await cloud.request("a.hang", "x")

        async def running() -> bool:
            return (await cloud.job(hang)).current_status == "running"

        await until(running)
        worker.terminate()

        async def stopping() -> bool:
            answer = await client.get("/ready")
            return answer.status_code == 503 and "stopping" in answer.json()["reasons"]

        await until(stopping)
        worker.kill()


def test_wrong_settings_are_all_named(tmp_path: object) -> None:
    import subprocess
    import sys

    from tests.worker.rig import ROOT

    environ = {
        "PATH": os.environ["PATH"], "FLEETWIRE_WORKER_LEASE_S": "1", "FLEETWIRE_WORKER_PROCESSES": "many",
        "FLEETWIRE_DATABASE_URL": "mysql://u:secret@h/d",
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-m", "worker"], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 2
    for word in ("FLEETWIRE_WORKER_PROCESSES", "FLEETWIRE_DATABASE_URL", "FLEETWIRE_REDIS_URL", "FLEETWIRE_CLOUD_ROOT"):
        assert word in run.stderr
    assert "secret@" not in run.stderr
