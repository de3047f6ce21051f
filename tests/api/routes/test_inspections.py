import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from api.answers import moment
from shared.sync import engine
from tests.api.conftest import RunningApi, StartApi, problem
from tests.api.responses import BEGIN
from tests.shared.sync.samples import TEMPLATE, add_template, an_id

PATH = "/api/v1/inspections"


@pytest.fixture(autouse=True)
async def template(sql: asyncpg.Connection) -> None:
    await add_template(sql, version=3)


def draft(**more: Any) -> dict[str, Any]:
    return {"template_id": str(TEMPLATE), "title": "Brakes", "answers": {"left": 1, "right": 2}, **more}


async def begin(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await client.post(f"{PATH}/", json=draft(**more))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{PATH}/{made['inspection_id']}"
    assert answer.headers["etag"] == '"1"'
    return made


async def do(
    client: httpx.AsyncClient, inspection_id: str, what: str, version: int | str, body: Any = None, **headers: str
) -> httpx.Response:
    """Submit, approve, reject, reopen; `update` and `delete` are methods of their own."""
    tag = version if isinstance(version, str) else f'"{version}"'
    method = {"update": "PATCH", "delete": "DELETE"}.get(what, "POST")
    path = f"{PATH}/{inspection_id}" if method != "POST" else f"{PATH}/{inspection_id}/{what}"
    return await client.request(method, path, json=body, headers={"If-Match": tag, **headers})


async def test_the_life_of_an_inspection(api: RunningApi) -> None:
    truck, operator = api.device("truck-7"), api.operator
    made = await begin(truck)
    one = made["inspection_id"]
    assert (made["status"], made["version"], made["template_version"], made["inspector_id"]) == (
        "draft", 1, 3, "truck-7",
    )  # fmt: skip
    known = await truck.get(f"{PATH}/{one}", headers={"If-None-Match": '"1"'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", '"1"')
    assert (await truck.get(f"{PATH}/{one}", headers={"If-None-Match": '"2"'})).status_code == 200
    changed = await do(truck, one, "update", 1, {"answers": {"left": None, "more": {"a": [1]}}, "title": "Lights"})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert (changed.json()["title"], changed.json()["answers"]) == ("Lights", {"right": 2, "more": {"a": [1]}})
    steps: list[tuple[httpx.AsyncClient, str, Any, str]] = [
        (truck, "submit", None, "submitted"),
        (operator, "reject", {"note": "no photo"}, "rejected"),
        (truck, "reopen", None, "draft"),
        (truck, "submit", None, "submitted"),
        (operator, "approve", {}, "approved"),
    ]
    for version, (client, what, body, status) in enumerate(steps, start=2):
        answer = await do(client, one, what, version, body)
        assert (answer.status_code, answer.json()["status"]) == (200, status), answer.text
        assert answer.headers["etag"] == f'"{version + 1}"'
        assert (await truck.get(f"{PATH}/{one}")).json() == answer.json()
    assert (await truck.get(f"{PATH}/{one}")).json()["decided_by"] == "olga"
    deleted = await do(operator, one, "delete", 7)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for client in (truck, operator, api.service):
        problem(await client.get(f"{PATH}/{one}"), 404, "not-found")
    problem(await truck.get(f"{PATH}/{one}", params={"is_deleted": "true"}), 404, "not-found")
    kept = await operator.get(f"{PATH}/{one}", params={"is_deleted": "true"})
    assert (kept.json()["is_deleted"], kept.json()["version"]) == (True, 8)
    problem(await do(operator, one, "update", 8, {"title": "x"}), 404, "not-found")
    problem(await do(operator, one, "update", "*", {"title": "x"}), 404, "not-found")


async def test_a_change_upon_an_old_version_is_told_the_state_as_it_is(api: RunningApi) -> None:
    truck = api.device("truck-7")
    one = (await begin(truck))["inspection_id"]
    now = (await do(api.operator, one, "update", 1, {"title": "Theirs"})).json()
    for what, body in (("update", {"title": "Mine"}), ("submit", None), ("delete", None)):
        for tag in ('"1"', 'W/"2"', '"1", "7"'):
            answer = await do(truck, one, what, tag, body)
            conflict = problem(answer, 412, "precondition-failed")
            assert (conflict["version"], conflict["current"], answer.headers["etag"]) == (2, now, '"2"')
    problem(await truck.patch(f"{PATH}/{one}", json={"title": "Mine"}), 428, "precondition-required")
    problem(await truck.post(f"{PATH}/{one}/submit"), 428, "precondition-required")
    problem(await truck.delete(f"{PATH}/{one}"), 428, "precondition-required")
    assert problem(await do(truck, one, "submit", "2"), 400, "invalid-request")["field"] == "If-Match"
    assert (await do(truck, one, "update", '"1", "2"', {"title": "Mine"})).json()["version"] == 3
    assert (await do(truck, one, "submit", "*")).json()["version"] == 4


async def test_an_id_that_is_taken_is_told_what_is_there(api: RunningApi) -> None:
    truck, an = api.device("truck-7"), an_id()
    made = await begin(truck, inspection_id=an)
    answer = await truck.post(PATH, json=draft(inspection_id=an, title="Another"))
    conflict = problem(answer, 409, "inspection-exists")
    assert (conflict["version"], conflict["current"], conflict["field"]) == (1, made, "inspection_id")
    problem(await api.device("truck-8").post(PATH, json=draft(inspection_id=an)), 403, "forbidden")


async def test_devices_reach_their_own_and_learn_nothing_of_others(api: RunningApi) -> None:
    one = (await begin(api.device("truck-7")))["inspection_id"]
    stranger = api.device("truck-8")
    answers = [
        await stranger.get(f"{PATH}/{one}"),
        await stranger.get(f"{PATH}/{one}", headers={"If-None-Match": '"1"'}),
        *[await do(stranger, one, "update", tag, {"title": "x"}) for tag in (1, 9, "*", '"1", "2"')],
        await do(stranger, one, "delete", 1),
        await stranger.get(f"{PATH}/{an_id()}"),
    ]
    for answer in answers:
        problem(answer, 404, "not-found")
    problem(await do(stranger, one, "approve", 1, {}), 403, "forbidden")
    problem(await do(api.service, one, "update", 1, {"title": "x"}), 403, "forbidden")
    assert (await api.service.get(f"{PATH}/{one}")).status_code == 200
    assert problem(await stranger.get(f"{PATH}/x"), 400, "invalid-parameter")["field"] == "inspection_id"


async def test_what_cannot_be_done_says_why(api: RunningApi) -> None:
    truck = api.device("truck-7")
    one = (await begin(truck))["inspection_id"]
    unknown = problem(await truck.post(PATH, json=draft(template_id=an_id())), 422, "unprocessable")
    assert (unknown["code"], unknown["field"]) == ("unknown_template", "template_id")
    assert problem(await do(truck, one, "reopen", 1), 422, "unprocessable")["code"] == "wrong_status"
    wrong: list[tuple[str, Any, str]] = [
        ("update", {}, ""),
        ("update", {"title": ""}, "title"),
        ("update", {"title": "a\nb"}, "title"),
        ("update", {"answers": {"a": 2**64}}, "answers"),
        ("update", {"answers": {"a": "x" * 66_000}}, "answers"),
        ("update", {"status": "approved"}, "status"),
    ]
    for what, body, field in wrong:
        refused = problem(await do(truck, one, what, 1, body), 400, "invalid-body")
        assert refused["field"] == field
        assert "data." not in refused["detail"]
    assert problem(await do(api.operator, one, "reject", 1, {}), 400, "invalid-body")["field"] == "note"
    for body, field in ((draft(inspection_id="X"), "inspection_id"), (draft(more=1), "more"), ({}, "template_id")):
        assert problem(await truck.post(PATH, json=body), 400, "invalid-body")["field"] == field


async def test_a_repeated_request_has_one_effect(api: RunningApi, sql: asyncpg.Connection) -> None:
    truck = api.device("truck-7")
    first = await truck.post(PATH, json=draft(), headers={"Idempotency-Key": "begin"})
    # As if the process had been lost before it stored the answer.
    await sql.execute("UPDATE request_keys SET status = NULL, body = NULL, headers = NULL, locked_until = created_at")
    again = await truck.post(PATH, json=draft(), headers={"Idempotency-Key": "begin"})
    assert (again.status_code, again.json(), again.headers["etag"]) == (201, first.json(), '"1"')
    assert "idempotency-replayed" not in again.headers
    one = first.json()["inspection_id"]
    for tag, version in (('"1"', 2), ("*", 3)):
        for lost in (False, True):
            if lost:
                await sql.execute(
                    "UPDATE request_keys SET status = NULL, body = NULL, headers = NULL, locked_until = created_at"
                )
            key = {"Idempotency-Key": f"change-{version}"}
            answer = await do(truck, one, "update", tag, {"title": f"to {version}"}, **key)
            assert (answer.status_code, answer.json()["version"]) == (200, version), answer.text
    assert await sql.fetchval("SELECT version FROM inspections") == 3


@pytest.mark.parametrize("tags", ['"1"', '"1", "7"', "*"])
async def test_a_request_whose_answer_was_lost_finds_its_effect(
    api: RunningApi, sql: asyncpg.Connection, tags: str
) -> None:
    truck = api.device("truck-7")
    steps: list[tuple[str, Any, int]] = [
        ("update", {"title": "Lights"}, 200),
        ("submit", None, 200),
        ("delete", None, 204),
    ]
    for what, body, status in steps:
        one = (await begin(truck))["inspection_id"]
        key = {"Idempotency-Key": what}
        assert (await do(truck, one, what, tags, body, **key)).status_code == status
        # As if the process had been killed after the effect, some time ago.
        await sql.execute("UPDATE request_keys SET status = NULL, headers = NULL, body = NULL, locked_until = now()")
        again = await do(truck, one, what, tags, body, **key)
        assert again.status_code == status, again.text
        assert await sql.fetchval("SELECT version FROM inspections WHERE inspection_id = $1", UUID(one)) == 2


async def test_upon_one_of_several_versions(api: RunningApi) -> None:
    truck = api.device("truck-7")
    one = (await begin(truck))["inspection_id"]
    assert (await do(truck, one, "update", '"1", "2"', {"title": "a"})).headers["etag"] == '"2"'
    assert (await do(truck, one, "update", 'W/"9", "1", "2"', {"title": "b"})).headers["etag"] == '"3"'
    for tags in ('"1", "2"', 'W/"3"', '"none-of-ours"'):
        body = problem(await do(truck, one, "update", tags, {"title": "c"}), 412, "precondition-failed")
        assert (body["version"], body["current"]["title"]) == (3, "b")
    assert (await do(truck, one, "delete", "*")).status_code == 204
    problem(await do(truck, one, "delete", "*"), 404, "not-found")
    problem(await do(truck, one, "delete", '"3", "4"'), 404, "not-found")


async def test_of_many_at_once_upon_one_version_one_is_made_and_upon_any_all(
    api: RunningApi, start_api: StartApi
) -> None:
    other = await start_api()
    trucks = [api.device("truck-7"), other.device("truck-7")]
    one = (await begin(trucks[0]))["inspection_id"]
    answers = await asyncio.gather(*(do(trucks[n % 2], one, "update", 1, {"title": f"n{n}"}) for n in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 9]
    both = await asyncio.gather(*(do(truck, one, "update", "*", {"title": "any"}) for truck in trucks))
    assert [answer.status_code for answer in both] == [200, 200]
    assert (await trucks[0].get(f"{PATH}/{one}")).json()["version"] == 4


async def test_who_holds_it_for_too_long_makes_others_come_again(
    api: RunningApi, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_WAIT_S", 0.1)
    truck = api.device("truck-7")
    one = (await begin(truck))["inspection_id"]
    async with sql.transaction():
        await sql.execute("SELECT FROM inspections FOR UPDATE")
        busy = await do(truck, one, "update", 1, {"title": "x"}, **{"Idempotency-Key": "later"})
        problem(busy, 503, "unavailable")
        assert int(busy.headers["retry-after"]) >= 1
    again = await do(truck, one, "update", 1, {"title": "x"}, **{"Idempotency-Key": "later"})
    assert (again.status_code, again.json()["version"]) == (200, 2)


async def test_a_day_has_so_many_changes(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_SYNC_KEYS_PER_DAY=1)
    await begin(api.device("truck-7"))
    assert problem(await api.device("truck-7").post(PATH, json=draft()), 429, "keys-spent")["limit"] == 1


async def add(sql: asyncpg.Connection, number: int, **columns: Any) -> str:
    """An inspection made `number` microseconds after all others began."""
    made_at = BEGIN + timedelta(microseconds=number)
    row = {
        "inspection_id": uuid4(), "inspector_id": "truck-7", "template_id": TEMPLATE, "template_version": 1,
        "status": "draft", "title": str(number), "answers": "{}", "version": 1, "created_at": made_at,
        "updated_at": made_at, **columns,
    }  # fmt: skip
    names, places = ", ".join(row), ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await sql.execute(f"INSERT INTO inspections ({names}) VALUES ({places})", *row.values())
    return str(row["inspection_id"])


async def titles(client: httpx.AsyncClient, **params: str) -> str:
    """Of all pages, in order."""
    found, cursor = "", dict[str, str]()
    while True:
        answer = await client.get(PATH, params=params | cursor)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert len(body["inspections"]) <= int(params.get("limit", 100))
        found += "".join(one["title"] for one in body["inspections"])
        if body["next"] is None:
            return found
        cursor = {"cursor": body["next"]}


def at(number: int) -> str:
    return moment(BEGIN + timedelta(microseconds=number)) or ""


async def test_lists_by_what_an_index_answers(api: RunningApi, sql: asyncpg.Connection) -> None:
    other = UUID(int=2 << 64)
    await add_template(sql, other)
    later = BEGIN + timedelta(days=1)
    await add(sql, 1, status="draft")
    await add(sql, 2, status="submitted", submitted_at=later + timedelta(microseconds=2))
    await add(sql, 3, status="approved", submitted_at=later + timedelta(microseconds=1), inspector_id="truck-8")
    await add(sql, 4, status="draft", is_deleted=True, template_id=other)
    await add(sql, 5, status="draft", inspector_id="truck-8")
    await add(sql, 5, status="rejected", submitted_at=later, template_id=other)
    both = "".join(sorted("55"))
    questions: list[tuple[dict[str, str], str]] = [
        ({}, f"{both}4321"),
        ({"order": "asc"}, f"1234{both}"),
        ({"inspector_id": "truck-7"}, "5421"),
        ({"inspector_id": "truck-7", "status": "draft"}, "41"),
        ({"inspector_id": "truck-7", "created_from": at(2), "created_to": at(5)}, "42"),
        ({"template_id": str(other)}, "54"),
        ({"template_id": str(TEMPLATE), "status": "draft", "order": "asc"}, "15"),
        ({"status": "draft"}, "541"),
        ({"is_deleted": "true"}, "4"),
        ({"is_deleted": "false"}, "55321"),
        ({"is_deleted": "false", "status": "draft"}, "51"),
        ({"created_from": at(2), "created_to": at(4)}, "32"),
        ({"sort": "submitted_at"}, "235"),
        ({"submitted_from": moment(later + timedelta(microseconds=1)) or "", "order": "asc"}, "32"),
        ({"submitted_to": moment(later + timedelta(microseconds=1)) or ""}, "5"),
    ]
    client = api.operator
    for params, expected in questions:
        for limit in ("1", "2", "100"):
            assert (await titles(client, **params, limit=limit), params) == (expected, params)
    truck = api.device("truck-8")
    assert await titles(truck) == "53"
    assert await titles(truck, inspector_id="truck-8", status="draft", limit="1") == "5"
    assert await titles(api.service, status="approved") == "3"
    shown = (await client.get(PATH, params={"status": "approved"})).json()["inspections"][0]
    assert shown.keys() == {
        "inspection_id", "inspector_id", "template_id", "template_version", "status", "title", "version", "is_deleted",
        "created_at", "updated_at", "submitted_at", "decided_at", "decided_by",
    }  # fmt: skip


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"inspector_id": ""}, "inspector_id"),
    ({"inspector_id": "a\x00"}, "inspector_id"),
    ({"template_id": "x"}, "template_id"),
    ({"is_deleted": "yes"}, "is_deleted"),
    ({"status": "done"}, "status"),
    ({"created_from": "today"}, "created_from"),
    ({"sort": "title"}, "sort"),
    ({"order": "up"}, "order"),
    ({"limit": "0"}, "limit"),
    ({"cursor": "x"}, "cursor"),
    ({"inspector_id": "truck-7", "template_id": str(TEMPLATE)}, "template_id"),
    ({"submitted_from": "2026-11-22T00:00:00Z", "status": "draft"}, "status"),
    ({"sort": "created_at", "submitted_to": "2026-11-22T00:00:00Z"}, "submitted_to"),
]


async def test_what_cannot_be_listed_is_refused_and_the_field_named(api: RunningApi, sql: asyncpg.Connection) -> None:
    for params, field in REFUSED:
        answer = await api.operator.get(PATH, params=params)
        assert (problem(answer, 400, "invalid-parameter")["field"], params) == (field, params)
    mixed = await api.operator.get(PATH, params={"inspector_id": "truck-7", "is_deleted": "true"})
    assert "allowed are" in problem(mixed, 400, "invalid-parameter")["detail"]
    truck = api.device("truck-7")
    problem(await truck.get(PATH, params={"inspector_id": "truck-8"}), 403, "forbidden")
    for params, field in (({"is_deleted": "true"}, "is_deleted"), ({"sort": "submitted_at"}, "sort")):
        assert problem(await truck.get(PATH, params=params), 400, "invalid-parameter")["field"] == field
    for number in range(3):
        await add(sql, number)
    cursor = (await api.operator.get(PATH, params={"limit": "1"})).json()["next"]
    for params in ({"status": "draft"}, {"order": "asc"}):
        answer = await api.operator.get(PATH, params=params | {"cursor": cursor})
        assert problem(answer, 400, "invalid-parameter")["field"] == "cursor"
    assert problem(await truck.get(PATH, params={"cursor": cursor}), 400, "invalid-parameter")["field"] == "cursor"
