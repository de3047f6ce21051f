import asyncio
import json
from typing import Any

import asyncpg

from api.routes.templates import BODY_MAX_BYTES
from tests.api.conftest import RunningApi, StartApi, problem
from tests.api.templates import PATH, change_template, make_template

UNKNOWN = f"{PATH}/00000000-0000-7000-8000-000000000000"


async def test_a_template_is_read_by_all_who_inspect_as_it_was_written(api: RunningApi) -> None:
    made = await make_template(api.operator, "Daily ü", fields=["left", "right"], deep={"ok": [1, 2.5, None]})
    path = f"{PATH}/{made['template_id']}"
    assert made == {
        "template_id": made["template_id"],
        "name": "Daily ü",
        "version": 1,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
        "body": {"fields": ["left", "right"], "deep": {"ok": [1, 2.5, None]}},
    }
    for reader in (api.device("truck-7"), api.operator, api.service):
        answer = await reader.get(f"{path}/")
        assert answer.json() == made
        assert answer.headers["etag"] == '"1"'
        assert answer.headers["cache-control"] == "private, no-cache"
        head = await reader.head(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("etag", "content-length", "content-type", "cache-control"):
            assert head.headers[name] == answer.headers[name]


async def test_what_the_client_has_is_not_sent_again(api: RunningApi) -> None:
    made = await make_template(api.operator)
    path, truck = f"{PATH}/{made['template_id']}", api.device("truck-7")
    known = await truck.get(path, headers={"If-None-Match": '"1"'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", '"1"')
    await change_template(api.operator, made["template_id"], 1, more=1)
    newer = await truck.get(path, headers={"If-None-Match": '"1"'})
    assert (newer.status_code, newer.json()["version"], newer.headers["etag"]) == (200, 2, '"2"')
    assert (await truck.get(path, headers={"If-None-Match": '"1", W/"2"'})).status_code == 304


async def test_every_version_stays(api: RunningApi) -> None:
    made = await make_template(api.operator, n=1)
    template_id = made["template_id"]
    second = await change_template(api.operator, template_id, 1, "Weekly", n=2)
    assert second["created_at"] == made["created_at"] < second["updated_at"]
    truck = api.device("truck-7")
    for version, expected in ((1, made), (2, second)):
        answer = await truck.get(f"{PATH}/{template_id}", params={"version": version})
        assert (answer.json(), answer.headers["etag"]) == (expected, f'"{version}"')
        assert "immutable" in answer.headers["cache-control"]
    problem(await truck.get(f"{PATH}/{template_id}", params={"version": 3}), 404, "not-found")
    for wrong in ("0", "x", "2147483648"):
        answer = await truck.get(f"{PATH}/{template_id}", params={"version": wrong})
        assert problem(answer, 400, "invalid-parameter")["field"] == "version"


async def test_a_change_upon_an_old_version_is_refused_with_the_state_as_it_is(api: RunningApi) -> None:
    made = await make_template(api.operator)
    path, content = f"{PATH}/{made['template_id']}", {"name": "Mine", "body": {"mine": True}}
    theirs = await change_template(api.operator, made["template_id"], 1, "Theirs", theirs=True)
    for tags in ('"1"', 'W/"2"', '"1", "3"', '"x"'):
        answer = await api.operator.put(path, json=content, headers={"If-Match": tags})
        body = problem(answer, 412, "precondition-failed")
        assert (body["version"], body["current"], answer.headers["etag"]) == (2, theirs, '"2"')
    problem(await api.operator.put(path, json=content), 428, "precondition-required")
    answer = await api.operator.put(path, json=content, headers={"If-Match": "2"})
    assert problem(answer, 400, "invalid-request")["field"] == "If-Match"
    merged = await api.operator.put(path, json=content, headers={"If-Match": '"1", "2"'})
    assert (merged.status_code, merged.json()["version"]) == (200, 3)
    forced = await api.operator.put(path, json=content, headers={"If-Match": "*"})
    assert (forced.status_code, forced.json()["version"], forced.headers["etag"]) == (200, 4, '"4"')


async def test_of_many_changes_upon_one_version_one_is_made(api: RunningApi, start_api: StartApi) -> None:
    other = await start_api()
    made = await make_template(api.operator)
    path = f"{PATH}/{made['template_id']}"
    operators = [api.operator, other.operator]
    answers = await asyncio.gather(
        *(
            operators[n % 2].put(path, json={"name": f"n{n}", "body": {}}, headers={"If-Match": '"1"'})
            for n in range(10)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 9]
    (won,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert {answer.json()["current"]["name"] for answer in answers if answer.status_code == 412} == {won["name"]}


async def test_the_list_is_lean_and_its_pages_meet(api: RunningApi) -> None:
    made = [await make_template(api.operator, f"t{n}") for n in range(5)]
    await change_template(api.operator, made[0]["template_id"], 1, "changed")
    found: list[dict[str, Any]] = []
    params: dict[str, str] = {"limit": "2"}
    while True:
        answer = await api.device("truck-7").get(PATH, params=params)
        body = answer.json()
        assert len(body["templates"]) <= 2
        found += body["templates"]
        if body["next"] is None:
            break
        params["cursor"] = body["next"]
    ids = [one["template_id"] for one in found]
    assert ids == sorted(ids, reverse=True)
    assert sorted(ids) == sorted(one["template_id"] for one in made)
    (changed,) = [one for one in found if one["template_id"] == made[0]["template_id"]]
    assert changed.keys() == {"template_id", "name", "version", "created_at", "updated_at"}
    assert (changed["name"], changed["version"]) == ("changed", 2)
    answer = await api.service.get(PATH, params={"cursor": params["cursor"][:-2] + "AA"})
    assert problem(answer, 400, "invalid-parameter")["field"] == "cursor"


UNKEPT: list[tuple[dict[str, Any], str]] = [
    ({"body": {}}, "name"),
    ({"name": "", "body": {}}, "name"),
    ({"name": " ", "body": {}}, "name"),
    ({"name": "a\nb", "body": {}}, "name"),
    ({"name": "\ud800", "body": {}}, "name"),
    ({"name": "n" * 201, "body": {}}, "name"),
    ({"name": "n"}, "body"),
    ({"name": "n", "body": []}, "body"),
    ({"name": "n", "body": {"a": 2**64}}, "body"),
    ({"name": "n", "body": {"a": "\ud800"}}, "body"),
    ({"name": "n", "body": {"a": "x" * BODY_MAX_BYTES}}, "body"),
    ({"name": "n", "body": {}, "more": 1}, "more"),
]


async def test_what_cannot_be_kept_is_refused_and_the_member_named(api: RunningApi) -> None:
    kind = {"Content-Type": "application/json"}
    for content, field in UNKEPT:
        answer = await api.operator.post(PATH, content=json.dumps(content), headers=kind)
        assert problem(answer, 400, "invalid-body")["field"] == field
    largest = "x" * (BODY_MAX_BYTES - len('{"a":""}'))
    made = await make_template(api.operator, a=largest)
    assert (await api.service.get(f"{PATH}/{made['template_id']}")).json()["body"] == {"a": largest}


async def test_operators_write_and_what_is_not_there_is_said_so(api: RunningApi) -> None:
    content = {"name": "n", "body": {}}
    for other in (api.device("truck-7"), api.service):
        problem(await other.post(PATH, json=content), 403, "forbidden")
        problem(await other.put(UNKNOWN, json=content, headers={"If-Match": "*"}), 403, "forbidden")
    problem(await api.client().get(UNKNOWN), 401, "unauthorized")
    problem(await api.operator.get(UNKNOWN), 404, "not-found")
    problem(await api.operator.put(UNKNOWN, json=content, headers={"If-Match": "*"}), 404, "not-found")
    assert problem(await api.operator.get(f"{PATH}/x"), 400, "invalid-parameter")["field"] == "template_id"


async def test_a_repeated_request_makes_one_template_and_one_version(api: RunningApi, sql: asyncpg.Connection) -> None:
    content, key = {"name": "n", "body": {"a": 1}}, {"Idempotency-Key": "one"}
    first = await api.operator.post(PATH, json=content, headers=key)
    again = await api.operator.post(PATH, json=content, headers=key)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert again.headers["location"] == first.headers["location"]
    path, condition = first.headers["location"], {"Idempotency-Key": "two", "If-Match": '"1"'}
    changes = [await api.operator.put(path, json=content, headers=condition) for _ in range(2)]
    assert [(one.status_code, one.json()["version"]) for one in changes] == [(200, 2), (200, 2)]
    assert changes[1].headers["idempotency-replayed"] == "true"
    assert await sql.fetchval("SELECT count(*) FROM template_versions") == 2
