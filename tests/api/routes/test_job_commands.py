import asyncio
import json
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from api.routes.job_commands import DATA_MAX_BYTES
from shared.bus.job_hints import JobHintReader
from shared.store import devices, jobs, log
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, StartApi, problem
from tests.api.jobs import add_job

PATH = "/api/v1/jobs"
BODY: dict[str, Any] = {"device_id": "truck-7", "kind": "table", "name": "load.csv", "data": "a,b\n1,2\n"}


@pytest.fixture(autouse=True)
async def trucks(pool: Pool) -> None:
    for device_id in ("truck-7", "truck-8"):
        await devices.ensure(pool, device_id, "truck")


async def post(client: httpx.AsyncClient, key: str | None = "k1", **changes: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return await client.post(PATH, json=BODY | changes, headers=headers)


async def events(pool: Pool, device_id: str = "truck-7") -> list[dict[str, Any]]:
    pages = await log.read_pages(pool, [log.PageRequest(device_id, 0, 500, 10**7)])
    return [json.loads(event.body) for event in pages[device_id].events]


async def test_a_request_in_the_call_becomes_a_job_and_workers_are_told(
    api: RunningApi, pool: Pool, redis_url: str
) -> None:
    reader = JobHintReader(redis_url, "requests", consumer="test")
    await reader.wait(0.05)  # makes the group that hints are handed to
    answer = await post(api.device("truck-7"), data={"pallets": [1, "ü"]})
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"{PATH}/{job['job_id']}")
    assert (job["status"], job["requested_by"], job["device_id"]) == ("queued", "device:truck-7", "truck-7")
    assert await reader.wait(10) == [UUID(job["job_id"])]
    await reader.close()
    content = '{"pallets":[1,"ü"]}'
    rows = await pool.fetch("SELECT inline_body, size, content_version, queue, store FROM jobs")
    size, digest = len(content.encode()), sha256(content.encode()).hexdigest()
    assert [tuple(row) for row in rows] == [(content, size, digest, "requests", "local")]
    history = (await api.operator.get(f"{PATH}/{job['job_id']}/history")).json()["history"]
    assert [(one["status"], one["detail"]) for one in history] == [("queued", "requested by device:truck-7")]


async def test_a_request_sent_again_is_one_job_and_another_one_under_its_key_is_refused(
    start_api: StartApi, sql: asyncpg.Connection
) -> None:
    one, other = await start_api(), await start_api()
    answers = await asyncio.gather(*(post(client) for client in [one.operator, other.operator] * 5))
    # Whoever asks while the first is being answered is told to ask again.
    assert {answer.status_code for answer in answers} <= {201, 409}
    again = await post(other.operator, '"k1"')
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert {answer.json()["job_id"] for answer in answers if answer.status_code == 201} == {again.json()["job_id"]}
    assert await sql.fetchval("SELECT count(*) FROM job_status") == 1
    problem(await post(other.operator, name="other.csv"), 422, "idempotency-key-reused")
    # A key is its principal's: another's is another.
    assert (await post(one.service)).json()["job_id"] != again.json()["job_id"]


async def test_a_request_whose_answer_was_lost_with_its_process_is_the_same_job_when_it_is_tried_again(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    first = (await post(api.operator)).json()
    await sql.execute("UPDATE request_keys SET status = NULL, body = NULL, locked_until = clock_timestamp()")
    again = await post(api.operator)
    assert (again.status_code, again.json()["job_id"]) == (201, first["job_id"])
    assert "idempotency-replayed" not in again.headers
    assert await sql.fetchval("SELECT count(*) FROM job_status") == 1


async def test_what_is_wrong_with_a_request_is_named(api: RunningApi, sql: asyncpg.Connection) -> None:
    client = api.operator
    for key in (None, "", '"', 'a"b', "k" * 256, "a b"):
        answer = problem(await post(client, key), 400, "invalid-request")
        assert answer["field"] == "Idempotency-Key"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"device_id": "NO"}, "device_id"),
        ({"kind": ""}, "kind"),
        ({"kind": "Table"}, "kind"),
        ({"name": "a/b"}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"data": 7}, "data"),
        ({"data": "a\x00b"}, "data"),
        ({"data": "x" * (DATA_MAX_BYTES + 1)}, "data"),
        ({"data": {"n": 2**70}}, "data"),
        ({"more": 1}, "more"),
    ]
    for number, (changes, field) in enumerate(wrong):
        assert problem(await post(client, f"w{number}", **changes), 400, "invalid-body")["field"] == field
    problem(await post(client, "k2", device_id="nobody"), 404, "not-found")
    problem(await post(api.device("truck-8")), 403, "forbidden")
    assert await sql.fetchval("SELECT count(*) FROM jobs") == 0
    assert (await post(client, "k3", data="x" * DATA_MAX_BYTES)).status_code == 201
    # A device that shows its token for the first time exists from then on.
    assert (await post(api.device("truck-9"), device_id="truck-9")).status_code == 201


async def test_cancelling_ends_a_job_tells_its_device_once_and_the_history_says_who(
    api: RunningApi, pool: Pool
) -> None:
    job_id = (await post(api.operator)).json()["job_id"]
    problem(await api.device("truck-8").post(f"{PATH}/{job_id}/cancel"), 404, "not-found")
    for _ in range(2):
        answer = await api.device("truck-7").post(f"{PATH}/{job_id}/cancel/")
        assert (answer.status_code, answer.json()["status"], answer.json()["outcome"]) == (200, "cancelled", "failed")
    (event,) = await events(pool)
    assert (event["type"], event["data"]["job_id"]) == ("RequestFailed", job_id)
    assert event["data"]["reason"] == "cancelled by the device"
    # What a device finds that fetches its state: also of a job that no worker had begun.
    (response,) = (await api.device("truck-7").get("/api/v1/devices/truck-7/responses")).json()["responses"]
    assert (response["outcome"], response["job_id"], response["event_id"]) == ("failed", job_id, event["id"])
    history = (await api.operator.get(f"{PATH}/{job_id}/history")).json()["history"]
    assert [(one["status"], one["detail"]) for one in history] == [
        ("cancelled", "cancelled by device:truck-7"),
        ("queued", "requested by operator:olga"),
    ]


async def test_what_has_ended_is_not_cancelled_and_what_is_not_dead_is_not_queued_anew(
    api: RunningApi, sql: asyncpg.Connection, pool: Pool
) -> None:
    done, running = await add_job(sql, status="done"), await add_job(sql, status="running")
    answer = problem(await api.operator.post(f"{PATH}/{done}/cancel"), 409, "wrong-state")
    assert answer["state"] == "done"
    assert (await api.service.post(f"{PATH}/{running}/cancel")).json()["status"] == "cancelled"
    for job_id, state in ((done, "done"), (running, "cancelled")):
        answer = problem(await api.operator.post(f"{PATH}/{job_id}/redrive"), 409, "wrong-state")
        assert answer["state"] == state
    problem(await api.operator.post(f"{PATH}/{uuid4()}/redrive"), 404, "not-found")
    assert len(await events(pool)) == 1


async def test_an_operator_queues_a_dead_job_anew_and_a_cancel_of_it_is_told_again(
    api: RunningApi, sql: asyncpg.Connection, pool: Pool
) -> None:
    job_id = (await post(api.operator)).json()["job_id"]
    assert (await api.operator.post(f"{PATH}/{job_id}/cancel")).json()["status"] == "cancelled"
    await sql.execute(
        "UPDATE jobs SET current_status = 'dead', attempts = 6, give_up_at = clock_timestamp(), error = 'no luck'"
    )
    for client in (api.device("truck-7"), api.service):
        problem(await client.post(f"{PATH}/{job_id}/redrive"), 403, "forbidden")
    job = (await api.operator.post(f"{PATH}/{job_id}/redrive")).json()
    assert (job["status"], job["attempts"], job["redrives"], job["give_up_at"]) == ("queued", 0, 1, None)
    assert (job["error"], job["finished_at"], job["outcome"]) == (None, None, None)
    history = (await api.operator.get(f"{PATH}/{job_id}/history")).json()["history"]
    assert (history[0]["status"], history[0]["detail"]) == ("queued", "queued anew by operator:olga")
    assert (await api.operator.post(f"{PATH}/{job_id}/cancel")).status_code == 200
    assert [event["data"]["reason"] for event in await events(pool)] == ["cancelled by an operator"] * 2
    assert (await jobs.depth(pool, "requests")).waiting == 0


async def test_jobs_of_a_kind_go_to_its_queue_with_the_priority_that_was_asked_for(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_JOB_PRIORITIES='{"table": -1}')
    assert [(job["queue"], job["priority"]) for job in [(await post(api.device("truck-7"))).json()]] == [
        ("requests", -1)
    ]
    job = (await post(api.operator, "k2", kind="model", priority=9)).json()
    assert (job["queue"], job["priority"], job["unique_key"]) == ("ai", 9, None)
    problem(await post(api.device("truck-7"), "k3", priority=1), 403, "forbidden")
    for wrong in (10, -10, 1.5, "1"):
        problem(await post(api.operator, "k4", priority=wrong), 400, "invalid-body")


async def test_while_a_job_with_a_unique_key_has_not_ended_it_is_the_answer(api: RunningApi, pool: Pool) -> None:
    first = await post(api.operator, "k1", unique_key="daily:2026-11-22")
    again = await post(api.service, "k2", unique_key="daily:2026-11-22", name="other.csv")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["job_id"] == first.json()["job_id"]
    assert again.headers["location"] == first.headers["location"]
    other = await post(api.operator, "k3", unique_key="daily:2026-11-22", device_id="truck-8")
    assert other.status_code == 201, "a key is the device's"
    assert (await api.operator.post(f"{PATH}/{first.json()['job_id']}/cancel")).status_code == 200
    answers = await asyncio.gather(*(post(api.operator, f"r{n}", unique_key="daily:2026-11-22") for n in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    for n, wrong in enumerate(("", "-a", "a b", "ü", "k" * 129)):
        assert (
            problem(await post(api.operator, f"w{n}", unique_key=wrong), 400, "invalid-body")["field"] == "unique_key"
        )
    # A dead one does not come back beside the one that took its place.
    await pool.fetch("UPDATE jobs SET current_status = 'dead' WHERE job_id = $1", UUID(first.json()["job_id"]))
    answer = await api.operator.post(f"{PATH}/{first.json()['job_id']}/redrive")
    assert "unique key" in problem(answer, 409, "wrong-state")["detail"]
