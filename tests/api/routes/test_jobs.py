from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from api.answers import moment
from shared.store import devices, job_list
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, StartApi, problem, token
from tests.api.jobs import add_change, add_job
from tests.api.responses import BEGIN

PATH = "/api/v1/jobs"


@pytest.fixture(autouse=True)
async def trucks(pool: Pool) -> None:
    for device_id in ("truck-7", "truck-8"):
        await devices.ensure(pool, device_id, "truck")


async def pages(client: httpx.AsyncClient, path: str = PATH, **params: str) -> list[list[dict[str, Any]]]:
    """All pages of a list."""
    found: list[list[dict[str, Any]]] = []
    cursor: dict[str, str] = {}
    while True:
        response = await client.get(path, params=params | cursor)
        assert response.status_code == 200, response.text
        body = response.json()
        found.append(body["jobs"] if "jobs" in body else body["history"])
        if body["next"] is None:
            return found
        cursor = {"cursor": body["next"]}


async def test_a_list_is_newest_first_and_lean_and_one_job_says_all_there_is(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    older = await add_job(sql, status="done")
    newer = await add_job(sql, "truck-8", after_us=1)
    body = (await api.operator.get(f"{PATH}/")).json()
    assert [one["job_id"] for one in body["jobs"]] == [str(newer), str(older)]
    assert body["next"] is None
    assert body["jobs"][1] == {
        "job_id": str(older),
        "device_id": "truck-7",
        "kind": "table",
        "name": "load.csv",
        "status": "done",
        "attempts": 0,
        "size": 10,
        "created_at": "2026-11-21T08:30:00.123456Z",
        "started_at": None,
        "finished_at": "2026-11-21T08:30:01.123456Z",
    }
    job_id = await add_job(sql, status="retry")
    body = (await api.operator.get(f"{PATH}/{job_id}/")).json()
    assert {"queue", "error", "worker", "requested_by", "redrives", "run_at", "outcome", "event_id"} < set(body)
    assert (body["status"], body["redrives"], body["outcome"]) == ("retry", 0, None)
    assert body["run_at"] is not None
    problem(await api.operator.get(f"{PATH}/not-a-uuid"), 400, "invalid-parameter")


async def test_pages_meet_without_gap_or_overlap_while_jobs_come_and_change(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    made = [str(await add_job(sql, after_us=n // 3, status="done")) for n in range(10)]
    seen: list[str] = []
    params = {"limit": "3", "status": "done"}
    while True:
        body = (await api.operator.get(PATH, params=params)).json()
        seen += [one["job_id"] for one in body["jobs"]]
        await add_job(sql, after_us=1000 + len(seen), status="done")
        if body["next"] is None:
            break
        params["cursor"] = body["next"]
    assert sorted(seen) == sorted(made)


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"status": "finished"}, "status"),
    ({"kind": ""}, "kind"),
    ({"kind": "k" * 65}, "kind"),
    ({"name_prefix": "a\x00"}, "name_prefix"),
    ({"device_id": "NO"}, "device_id"),
    ({"created_from": "2026-11-21"}, "created_from"),
    ({"created_from": "2026-11-21T08:30:00"}, "created_from"),
    ({"created_to": "0001-01-01T00:00:00+05:00"}, "created_to"),
    ({"created_from": "2026-11-22T00:00:00Z", "created_to": "2026-11-21T00:00:00Z"}, "created_to"),
    ({"sort": "size"}, "sort"),
    ({"order": "up"}, "order"),
    ({"limit": "0"}, "limit"),
    ({"limit": "501"}, "limit"),
    ({"cursor": "x"}, "cursor"),
    ({"sort": "name", "status": "dead"}, "status"),
    ({"sort": "created_at", "name_prefix": "a"}, "name_prefix"),
    ({"status": "dead", "kind": "photo", "device_id": "truck-7"}, "device_id"),
]


async def test_what_an_index_answers_is_answered_and_anything_else_refused_by_its_field(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    await add_job(sql, name="a.csv")
    await add_job(sql, "truck-8", name="b.jpg", kind="photo", after_us=1)
    await add_job(sql, "truck-8", name="b-ü.csv", after_us=2)
    await add_job(sql, name="d.jpg", kind="photo", after_us=3, status="dead")
    letters = {"a.csv": "a", "b.jpg": "b", "b-ü.csv": "c", "d.jpg": "d"}
    second, third = (moment(BEGIN + timedelta(microseconds=n)) or "" for n in (1, 2))
    questions: list[tuple[dict[str, str], str]] = [
        ({"status": "dead"}, "d"),
        ({"kind": "photo"}, "db"),
        ({"device_id": "truck-8"}, "cb"),
        ({"device_id": "truck-8", "kind": "photo"}, "b"),
        ({"status": "queued", "kind": "table", "order": "asc"}, "ac"),
        ({"created_from": second}, "dcb"),
        ({"created_from": "2026-11-21T09:30:00.123457+01:00", "created_to": third}, "b"),
        ({"name_prefix": "b"}, "cb"),  # as bytes compare, a hyphen comes before a dot
        ({"sort": "name", "order": "desc"}, "dbca"),
        ({"sort": "name", "name_prefix": "b-ü"}, "c"),
    ]
    client = api.operator
    for params, expected in questions:
        for limit in ("1", "100"):
            found = [one for page in await pages(client, **params, limit=limit) for one in page]
            assert ("".join(letters[one["name"]] for one in found), params) == (expected, params)
    for params, field in REFUSED:
        answer = problem(await client.get(PATH, params=params), 400, "invalid-parameter")
        assert (answer["field"], field in answer["detail"]) == (field, True)


async def test_a_second_filter_may_cost_a_short_page_and_loses_nothing(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, current_status,"
        " created_at)"
        " SELECT gen_random_uuid(), 'requests', CASE WHEN n IN (1, 5001, 7500) THEN 'model' ELSE 'table' END,"
        " 'truck-7', 'local', 'p', 'n', 1, '', 'done', $1::timestamptz - n * interval '1 second'"
        " FROM generate_series(1, 7500) n",
        BEGIN,
    )
    found = await pages(api.operator, device_id="truck-7", kind="model")
    assert [len(page) for page in found] == [1, 2]
    assert job_list.WALK_MAX == 5000
    found = await pages(api.operator, device_id="truck-7", status="dead")
    assert found == [[], []]


async def test_a_cursor_is_good_for_the_question_it_was_given_for_at_any_instance_and_any_size_of_page(
    start_api: StartApi, sql: asyncpg.Connection
) -> None:
    for n in range(3):
        await add_job(sql, after_us=n)
    one, other = await start_api(), await start_api(FLEETWIRE_PAGE_MAX=2)
    assert [len(page) for page in await pages(other.operator)] == [2, 1]
    problem(await other.operator.get(PATH, params={"limit": "3"}), 400, "invalid-parameter")
    params = {"limit": "2", "kind": "table"}
    cursor = (await one.operator.get(PATH, params=params)).json()["next"]
    # Any instance goes on, and the size of a page may change.
    assert len((await other.operator.get(PATH, params={"kind": "table", "cursor": cursor})).json()["jobs"]) == 1
    for wrong in ({"kind": "photo"}, {}, {"kind": "table", "order": "asc"}, {"kind": "table", "status": "done"}):
        answer = problem(await one.operator.get(PATH, params={**wrong, "cursor": cursor}), 400, "invalid-parameter")
        assert answer["field"] == "cursor"
    # What an operator was given is of all devices, and no device goes on from there.
    problem(await one.device("truck-7").get(PATH, params={"kind": "table", "cursor": cursor}), 400, "invalid-parameter")


async def test_a_device_sees_its_own_jobs_and_no_others(api: RunningApi, sql: asyncpg.Connection) -> None:
    own, others = await add_job(sql), await add_job(sql, "truck-8")
    device = api.device("truck-7")
    assert [one["job_id"] for one in (await device.get(PATH)).json()["jobs"]] == [str(own)]
    assert len((await device.get(PATH, params={"device_id": "truck-7"})).json()["jobs"]) == 1
    problem(await device.get(PATH, params={"device_id": "truck-8"}), 403, "forbidden")
    assert (await device.get(f"{PATH}/{own}")).json()["job_id"] == str(own)
    for path in (f"{PATH}/{others}", f"{PATH}/{uuid4()}", f"{PATH}/{others}/history"):
        problem(await device.get(path), 404, "not-found")
    for client in (api.service, api.client(token("truck-7", "device operator"))):
        assert (await client.get(f"{PATH}/{others}")).status_code == 200
        assert len((await client.get(PATH)).json()["jobs"]) == 2


async def test_a_history_is_newest_first_in_pages_that_meet(api: RunningApi, sql: asyncpg.Connection) -> None:
    job_id, other = await add_job(sql), await add_job(sql)
    for n in range(1, 8):
        await add_change(sql, job_id, "retry", after_us=n // 2, detail=f"change {n}")
    path = f"{PATH}/{job_id}/history"
    found = await pages(api.operator, path, limit="3")
    assert [len(page) for page in found] == [3, 3, 2]
    changes = [one for page in found for one in page]
    assert [one["detail"] for one in changes] == [*(f"change {n}" for n in range(7, 0, -1)), None]
    assert changes[-1] == {"at": moment(BEGIN), "status": "queued", "worker": None, "detail": None}
    cursor = (await api.operator.get(path, params={"limit": "3"})).json()["next"]
    answer = await api.operator.get(f"{PATH}/{other}/history", params={"cursor": cursor})
    assert problem(answer, 400, "invalid-parameter")["field"] == "cursor"
