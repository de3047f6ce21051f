"""`fleetwire jobs …`, against a real API."""

import asyncio
import json
import re
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from infra.commands import jobs
from infra.commands.errors import CommandFailed
from infra.onebox.home import Home
from loadtests.ports import free_port
from shared.store import devices
from shared.store.pool import Pool
from tests.api import conftest
from tests.api.conftest import TOKEN_KEYS, RunningApi, token
from tests.api.jobs import add_job

api, pool, sql, start_api = conftest.api, conftest.pool, conftest.sql, conftest.start_api

NOTHING: dict[str, str | None] = {}


@pytest.fixture
def environ(home: Home, api: RunningApi) -> dict[str, str]:
    return {"FLEETWIRE_HOME": str(home.path), "FLEETWIRE_API_URL": api.url, "FLEETWIRE_TOKEN_KEYS": TOKEN_KEYS}


@pytest.fixture(autouse=True)
async def trucks(pool: Pool) -> None:
    for device_id in ("truck-7", "truck-8"):
        await devices.ensure(pool, device_id, "truck")


async def run(command: Any, *given: Any, **named: Any) -> int:
    """A command speaks without a loop, so in a thread."""
    status: int = await asyncio.to_thread(command, *given, **named)
    return status


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the command said, without the log of the API, which runs in this process."""
    return [
        line for line in capsys.readouterr().out.splitlines() if not re.match(r"\d{4}-\d\d-\d\d .*\[(info|debug)", line)
    ]


async def status_of(sql: asyncpg.Connection, job_id: UUID) -> str:
    found: str = await sql.fetchval("SELECT current_status FROM jobs WHERE job_id = $1", job_id)
    return found


async def test_jobs_and_queues_are_listed(
    environ: dict[str, str], sql: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    old = await add_job(sql, name="old.csv")
    new = await add_job(sql, after_us=5, kind="photo", status="dead", name="[bold]new.jpg")
    assert await run(jobs.ls, environ, filters=NOTHING, limit=10, as_json=True) == 0
    [line] = printed(capsys)
    listed = json.loads(line)
    assert [job["job_id"] for job in listed["jobs"]] == [str(new), str(old)]
    assert [(queue["queue"], queue["waiting"]) for queue in listed["queues"]] == [("requests", 1)]
    assert await run(jobs.ls, environ, filters={"status": "dead"}, limit=10, as_json=False) == 0
    shown = capsys.readouterr().out
    assert f" {new} " in shown  # whole, however narrow the screen
    assert "old.csv" not in shown


async def test_a_limit_above_a_page_takes_several(
    environ: dict[str, str],
    sql: asyncpg.Connection,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "_PAGE", 2)
    for number in range(7):
        await add_job(sql, after_us=number)
    for limit, got in ((5, 5), (50, 7)):
        await run(jobs.ls, environ, filters=NOTHING, limit=limit, as_json=True)
        [line] = printed(capsys)
        assert len(json.loads(line)["jobs"]) == got


async def test_live_looks_again_and_again(
    environ: dict[str, str], sql: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    await add_job(sql)
    given: dict[str, Any] = {"filters": NOTHING, "limit": 5, "live": True, "every_s": 0.01, "looks": 3}
    assert await run(jobs.ls, environ, as_json=True, **given) == 0
    assert len(printed(capsys)) == 3
    assert await run(jobs.ls, environ, as_json=False, **given) == 0
    assert "requests" in capsys.readouterr().out


async def test_one_job_is_shown_with_its_history(
    environ: dict[str, str], sql: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = await add_job(sql)
    assert await run(jobs.show, environ, str(job_id), as_json=True) == 0
    [line] = printed(capsys)
    told = json.loads(line)
    assert (told["job_id"], [one["status"] for one in told["history"]]) == (str(job_id), ["queued"])
    assert await run(jobs.show, environ, str(job_id), as_json=False) == 0
    assert "load.csv" in capsys.readouterr().out


async def test_dead_jobs_are_queued_anew_and_what_is_refused_stops_no_other(
    environ: dict[str, str], sql: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    dead, done = await add_job(sql, status="dead"), await add_job(sql, status="done")
    assert await run(jobs.retry, environ, [str(done), str(dead)], filters=None) == 1
    said = capsys.readouterr()
    assert (await status_of(sql, dead), await status_of(sql, done)) == ("queued", "done")
    assert f"\n{dead} queued anew\n" in said.out
    assert f"{done} queued anew" not in said.out
    assert f"{done}: the job is done: only a dead one is queued anew" in said.err


async def test_all_dead_of_a_device_are_queued_anew(
    environ: dict[str, str],
    sql: asyncpg.Connection,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "_PAGE", 2)
    mine = [await add_job(sql, after_us=n, status="dead") for n in range(5)]
    other = await add_job(sql, "truck-8", status="dead")
    assert await run(jobs.retry, environ, [], filters={"kind": None, "device_id": "truck-7"}) == 0
    assert {await status_of(sql, job) for job in mine} == {"queued"}
    assert await status_of(sql, other) == "dead"
    assert "5 queued anew" in capsys.readouterr().err


async def test_what_waits_is_cancelled(environ: dict[str, str], sql: asyncpg.Connection) -> None:
    waits, again, done = [await add_job(sql, status=status) for status in ("queued", "retry", "done")]
    assert await run(jobs.cancel, environ, [], filters={"kind": None, "device_id": None}) == 0
    assert [await status_of(sql, job) for job in (waits, again, done)] == ["cancelled", "cancelled", "done"]


async def test_draining_waits_until_nothing_is_left(
    environ: dict[str, str], sql: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = await add_job(sql)
    assert await run(jobs.drain, environ, "requests", timeout_s=0.05, every_s=0.01) == 1
    assert "requests still holds 1" in capsys.readouterr().err
    waiting = asyncio.create_task(run(jobs.drain, environ, "requests", timeout_s=40, every_s=0.01))
    assert await run(jobs.cancel, environ, [str(job_id)], filters=None) == 0
    assert await waiting == 0
    assert '{"queue": "requests", "left": 0}' in capsys.readouterr().out


async def test_errors_say_what_to_do(environ: dict[str, str]) -> None:
    with pytest.raises(CommandFailed, match=r"'x' is not the id of a job.*jobs ls"):
        await run(jobs.show, environ, "x", as_json=False)
    with pytest.raises(CommandFailed, match="there is no such job"):
        await run(jobs.show, environ, str(uuid4()), as_json=False)
    with pytest.raises(CommandFailed, match="one of the two"):
        await run(jobs.retry, environ, [], filters=None)
    device = environ | {"FLEETWIRE_TOKEN": token("truck-7", "device")}
    with pytest.raises(CommandFailed, match="403"):
        await run(jobs.ls, device, filters=NOTHING, limit=1, as_json=True)
    nobody = environ | {"FLEETWIRE_API_URL": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(CommandFailed, match="cannot be asked"):
        await run(jobs.ls, nobody, filters=NOTHING, limit=1, as_json=True)
