"""Where a file, a job or an event is, as the database has it."""

from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.protocol.event import encode_event
from shared.store import devices, log
from shared.store.log import NewEvent
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, problem
from tests.api.jobs import add_job

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def job_path(job_id: UUID) -> str:
    return f"/api/v1/jobs/{job_id}/trace"


def device_path(of: str) -> str:
    return f"/api/v1/devices/truck-7/trace?of={of}"


@pytest.fixture(autouse=True)
async def trucks(pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")


async def test_a_job_that_no_worker_takes_is_stuck_in_its_queue(api: RunningApi, sql: asyncpg.Connection) -> None:
    job = await add_job(sql)
    await sql.execute("UPDATE jobs SET created_at = clock_timestamp(), run_at = clock_timestamp()")
    asked = await api.operator.get(job_path(job))
    assert asked.json()["at"] | {"since": "", "for_s": 0} == {
        "place": "queued", "since": "", "for_s": 0, "holder": "queue requests", "stuck": None,
    }  # fmt: skip
    await sql.execute(
        "UPDATE jobs SET run_at = run_at - interval '1 minute', created_at = created_at - interval '1 hour'"
    )
    by_name = (await api.operator.get(device_path("load.csv"))).json()
    assert by_name["job_id"] == str(job)
    assert by_name["at"]["stuck"].startswith("no worker of the queue 'requests' has taken it for 6")


async def test_a_worker_that_renews_no_more_is_named_with_the_time_of_its_silence(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    job = await add_job(sql, status="running")

    async def at(left_s: float) -> dict[str, object]:
        await sql.execute(
            "UPDATE jobs SET worker = 'worker-1', started_at = clock_timestamp() - interval '70 s', "
            "lease_until = clock_timestamp() + make_interval(secs => $1)",
            left_s,
        )
        found: dict[str, object] = (await api.operator.get(job_path(job))).json()["at"]
        assert (found["place"], found["holder"]) == ("running", "worker-1")
        return found

    assert (await at(45))["stuck"] is None
    assert (await at(25))["stuck"] == "worker-1 has been silent for 35 s; its lease ends in 25 s"
    assert "which ended 5 s ago" in str((await at(-5))["stuck"])


async def test_an_event_is_followed_from_its_file_to_its_ack(
    api: RunningApi, pool: Pool, sql: asyncpg.Connection
) -> None:
    job = await add_job(sql, status="done")
    await sql.execute(
        "UPDATE jobs SET traceparent = $1, created_at = clock_timestamp() - interval '3 s', "
        "detected_at = clock_timestamp() - interval '4 s', started_at = clock_timestamp() - interval '2 s'",
        TRACE,
    )
    event_id = str(uuid4())
    body = encode_event(
        event_id=event_id, event_type="ResponseReady", source="/t", time="2026-11-21T08:30:00Z",
        data={"job_id": str(job)}, traceparent=TRACE,
    )  # fmt: skip
    await log.append_committed(pool, [NewEvent("truck-7", event_id, "ResponseReady", body, b"x" * 32)])
    await sql.execute(
        "INSERT INTO responses (response_id, device_id, job_id, store, folder, outcome, event_id, completed_at) "
        "VALUES ($1, 'truck-7', $1, 'local', 'f', 'ready', $2, clock_timestamp())",
        job,
        event_id,
    )
    asked = device_path(event_id)
    waiting = (await api.operator.get(asked)).json()
    assert waiting == (await api.operator.get(job_path(job))).json() | {"at": waiting["at"]}
    assert (waiting["job_id"], waiting["seq"], waiting["trace_id"]) == (str(job), 1, TRACE.split("-")[1])
    assert [stage["stage"] for stage in waiting["stages"]] == ["detected", "queued", "claimed", "recorded"]
    assert waiting["stages"][1]["lag_s"] == pytest.approx(1, abs=0.1)
    assert (waiting["at"]["place"], waiting["at"]["holder"]) == ("recorded", "device truck-7, not connected")

    await sql.execute(
        "INSERT INTO hubs (name, instance, url, capacity, heartbeat_at) "
        "VALUES ('hub-1', 'i', 'ws://h', 5, clock_timestamp() - interval '40 s')"
    )
    await sql.execute("UPDATE cursors SET hub = 'hub-1', connected_at = clock_timestamp()")
    silent = (await api.operator.get(asked)).json()["at"]
    assert (silent["holder"], silent["stuck"]) == ("hub-1", "hub-1 was last heard 40 s ago")
    await sql.execute("UPDATE hubs SET heartbeat_at = clock_timestamp()")
    assert (await api.operator.get(asked)).json()["at"]["stuck"] is None
    await sql.execute("UPDATE events SET recorded_at = recorded_at - interval '70 s'")
    await sql.execute("UPDATE cursors SET connected_at = connected_at - interval '65 s'")
    assert "has not acked it for 65 s" in (await api.operator.get(asked)).json()["at"]["stuck"]
    await sql.execute("UPDATE cursors SET acked_seq = 1, acked_at = clock_timestamp()")
    acked = (await api.operator.get(asked)).json()
    assert (acked["at"]["place"], acked["at"]["stuck"]) == ("acked", None)
    assert acked["stages"][-1] | {"at": "", "lag_s": 0} == {"stage": "acked", "at": "", "lag_s": 0, "exact": True}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/v1/jobs/x/trace", "job_id"),
        ("/api/v1/devices/truck-7/trace", "of"),
        ("/api/v1/devices/truck-7/trace?of=a%00", "of"),
        ("/api/v1/devices/truck-7/trace?of=", "of"),
        (f"/api/v1/devices/truck-7/trace?of={'a' * 201}", "of"),
    ],
)
async def test_a_question_that_is_not_one_is_refused_with_the_field(api: RunningApi, path: str, field: str) -> None:
    assert problem(await api.operator.get(path), 400, "invalid-parameter")["field"] == field


async def test_what_nobody_knows_is_not_found(api: RunningApi) -> None:
    for path in (job_path(uuid4()), device_path("no"), "/api/v1/devices/nobody/trace?of=e"):
        problem(await api.operator.get(path), 404, "not-found")
