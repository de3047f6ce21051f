"""While nothing carries hints the API takes every job, and small ones it hands to a process of its own."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import pytest

from api.small_jobs import SmallJobs, SmallJobSettings
from loadtests.ports import free_port
from shared.settings import SettingsError, load
from shared.store import jobs
from shared.store.pool import Pool
from tests.api.conftest import ApiProcess, RunningApi, StartApi, api_environment, http_client, token
from tests.waiting import until, until_so

# What stands for the process: it is ready, then does with each line what is said here.
_SILENT = "import sys; print('ready', flush=True); sys.stdin.read()"
_PROMPT = (
    "import sys; print('ready', flush=True)\nfor line in sys.stdin: print('noise'); print(line, end='', flush=True)"
)
_DIES = "import sys; print('ready', flush=True); sys.stdin.readline()"


class Hints:
    go_out = False


@asynccontextmanager
async def running(script: str, hints: Hints, most: int = 2) -> AsyncIterator[SmallJobs]:
    small = SmallJobs(
        SmallJobSettings(small_jobs=most),
        hints_go_out=lambda: hints.go_out,
        environ=os.environ,
        rand=Random(1),
        program=("-c", script),
    )
    task = asyncio.create_task(small.run())
    try:
        yield small
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=10)


async def test_no_more_than_agreed_are_handed_over_and_the_rest_is_left_to_polling() -> None:
    async with running(_SILENT, Hints()) as small:
        assert not small.offer(uuid4(), "ping"), "there is no process yet"
        await until_so(lambda: small.ready, "a process is there", deadline_s=40)
        first = uuid4()
        assert small.offer(first, "ping")
        assert small.offer(uuid4(), "ping")
        assert not small.offer(uuid4(), "ping")
        assert small.offer(first, "ping"), "the same again takes no further place"
        assert not small.offer(uuid4(), "photo")
        assert small.held == 2


async def test_what_is_over_makes_room() -> None:
    async with running(_PROMPT, Hints()) as small:
        await until_so(lambda: small.ready, "a process is there", deadline_s=40)
        for _ in range(10):
            await until_so(lambda: small.offer(uuid4(), "ping"), "there is room", deadline_s=40)
        await until_so(lambda: small.held == 0, "all are over", deadline_s=40)


async def test_nothing_is_handed_over_while_hints_go_out_and_no_process_runs_for_it() -> None:
    hints = Hints()
    hints.go_out = True
    async with running(_PROMPT, hints) as small:
        await asyncio.sleep(0)
        assert not small.offer(uuid4(), "ping")
        assert not small.ready
        hints.go_out = False
        await until_so(lambda: small.ready, "a process is there", deadline_s=40)
        hints.go_out = True
        assert not small.offer(uuid4(), "ping")


async def test_a_process_that_dies_takes_its_jobs_places_with_it_and_is_followed_by_another() -> None:
    async with running(_DIES, Hints(), most=1) as small:
        await until_so(lambda: small.ready, "a process is there", deadline_s=40)
        assert small.offer(uuid4(), "ping")
        await until_so(lambda: not small.ready, "the process is gone", deadline_s=40)
        await until_so(lambda: small.ready, "a process is there", deadline_s=40)
        assert small.held == 0


async def test_without_being_asked_to_the_api_does_no_jobs() -> None:
    async with running(_PROMPT, Hints(), most=0) as small:
        assert not small.offer(uuid4(), "ping")


async def test_the_process_is_told_no_key_that_its_api_makes_tokens_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETWIRE_TOKEN_KEYS", "secret")
    monkeypatch.setenv("FLEETWIRE_OPS_TOKEN", "secret")
    monkeypatch.setenv("FLEETWIRE_LOG_LEVEL", "info")
    # Ready only if it knows what it needs, and nothing more.
    script = (
        "import os, sys; known = os.environ.keys(); assert 'secret' not in os.environ.values();"
        "assert {'FLEETWIRE_LOG_LEVEL', 'FLEETWIRE_PARENT_PID', 'FLEETWIRE_DB_POOL_MAX', 'PATH'} <= known;" + _SILENT
    )
    async with running(script, Hints()) as small:
        await until_so(lambda: small.ready, "a process is there", deadline_s=40)


def test_kinds_and_numbers_are_checked() -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_API_SMALL_KINDS") as error:
        load(SmallJobSettings, {"FLEETWIRE_API_SMALL_KINDS": " , ", "FLEETWIRE_API_SMALL_JOBS": "65"})
    assert "FLEETWIRE_API_SMALL_JOBS" in str(error.value)


async def ask(url: str) -> UUID:
    job = {"device_id": "truck-7", "kind": "ping", "name": "a.ping", "data": "x"}
    headers = {"Authorization": f"Bearer {token('truck-7')}", "Idempotency-Key": str(uuid4())}
    async with http_client(base_url=url, timeout=30) as client:
        answer = await client.post("/api/v1/jobs", json=job, headers=headers)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["job_id"])


@pytest.mark.parametrize("scheme", ["redis://127.0.0.1:{}/0", "amqp://127.0.0.1:{}"])
async def test_no_job_is_refused_while_no_server_carries_hints(start_api: StartApi, pool: Pool, scheme: str) -> None:
    api: RunningApi = await start_api(
        FLEETWIRE_QUEUE_URL=scheme.format(free_port()), FLEETWIRE_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"
    )
    for job_id in [await ask(api.url) for _ in range(5)]:
        job = await jobs.get(pool, job_id)
        assert job is not None
        assert job.current_status == "queued"


@pytest.mark.processes
async def test_small_jobs_are_done_by_the_api_alone_while_hints_are_away(
    database_url: str, pool: Pool, tmp_path: Path
) -> None:
    dead = f"redis://127.0.0.1:{free_port()}/0"
    api = ApiProcess(api_environment(database_url, dead, FLEETWIRE_API_SMALL_JOBS=2), tmp_path / "api.log")
    await api.start()
    try:
        await api.ready()

        async def done() -> bool:
            job_id = await ask(api.url)
            for _ in range(100):
                job = await jobs.get(pool, job_id)
                if job is not None and job.current_status == "done":
                    return True
                if job is not None and job.current_status == "queued":
                    break  # it came before the process was there: that one waits for a worker
                await asyncio.sleep(0.02)
            return False

        await until(done, "a job is done by the API", deadline_s=40)
    finally:
        assert await api.end() == 0
