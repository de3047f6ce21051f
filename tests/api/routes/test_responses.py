import json
from uuid import UUID

import asyncpg
import pytest

from api.pagination import PageCursor, encode_cursor
from shared.store import devices
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, problem
from tests.api.responses import BEGIN, add_response

PATH = "/api/v1/devices/truck-7/responses"


@pytest.fixture(autouse=True)
async def trucks(pool: Pool) -> None:
    for device_id in ("truck-7", "truck-8"):
        await devices.ensure(pool, device_id, "truck")


async def test_the_state_after_a_reset_is_all_of_the_devices_own_responses(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    response_id, file_ids = await add_response(sql, "truck-7", files=2)
    failed, _ = await add_response(sql, "truck-7", after_us=1, outcome="failed")
    await add_response(sql, "truck-8")
    body = (await api.device("truck-7").get(PATH)).json()
    assert body["next"] is None
    assert [one["response_id"] for one in body["responses"]] == [failed, response_id]
    assert (body["responses"][0]["outcome"], body["responses"][0]["reason"]) == ("failed", "unreadable")
    ready = body["responses"][1]
    assert ready["completed_at"] == "2026-11-21T08:30:00.123456Z"
    assert ready["request"] == {"name": "load.csv"}
    assert ready["files"][0] == {
        "file_id": file_ids[0],
        "name": "file-0.csv",
        "size": 10,
        "sha256": "ab" * 32,
        "content_type": "text/csv",
        "url": f"/api/v1/files/{file_ids[0]}",
    }
    assert [one["name"] for one in ready["files"]] == ["file-0.csv", "file-1.csv"]


async def test_a_response_without_a_file_is_its_answer(api: RunningApi, sql: asyncpg.Connection) -> None:
    await add_response(sql, "truck-7", files=0)
    answer = {"handler": "ping", "outcome": "processed", "detail": None, "summary": {"at": 1.5}}
    await sql.execute("UPDATE responses SET answer = $1", json.dumps(answer))
    (shown,) = (await api.device("truck-7").get(PATH)).json()["responses"]
    assert (shown["files"], shown["answer"]) == ([], answer)


async def test_pages_meet_without_gap_or_overlap_also_within_a_microsecond(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    made = {(await add_response(sql, "truck-7", after_us=n // 3))[0] for n in range(10)}
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        body = (await api.device("truck-7").get(PATH, params=params)).json()
        seen += [one["response_id"] for one in body["responses"]]
        cursor = body["next"]
        await add_response(sql, "truck-7", after_us=1000)  # newer ones come before the first page and disturb no other
        if cursor is None:
            break
    assert len(seen) == 10
    assert set(seen) == made


async def test_a_cursor_that_was_not_given_out_is_refused(api: RunningApi) -> None:
    good = encode_cursor(PageCursor(BEGIN, UUID(int=1)))
    device = api.device("truck-7")
    assert (await device.get(PATH, params={"cursor": good})).json() == {"responses": [], "next": None}
    for wrong in ("", "x", good[:-1], good + "A", "!" * 32, "_" * 32, "é" * 32):
        answer = problem(await device.get(PATH, params={"cursor": wrong}), 400, "invalid-parameter")
        assert answer["field"] == "cursor"


async def test_only_the_device_and_operators_see_them(api: RunningApi, sql: asyncpg.Connection) -> None:
    await add_response(sql, "truck-7")
    problem(await api.device("truck-8").get(PATH), 403, "forbidden")
    assert len((await api.operator.get(PATH)).json()["responses"]) == 1
    problem(await api.operator.get(PATH.replace("truck-7", "nobody")), 404, "not-found")
