from typing import Any

import pytest

from shared.store import devices, schedules
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, problem

PATH = "/api/v1/schedules"
BODY: dict[str, Any] = {
    "every_s": 3600, "device_ids": ["truck-7"], "kind": "table", "name": "load.csv", "data": "a\n1\n",
}  # fmt: skip


@pytest.fixture(autouse=True)
async def trucks(pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")


async def put(api: RunningApi, schedule: str = "daily", /, **changes: Any) -> Any:
    return await api.operator.put(f"{PATH}/{schedule}", json=BODY | changes)


async def test_a_schedule_is_made_replaced_paused_resumed_and_forgotten(api: RunningApi) -> None:
    made = await put(api)
    assert (made.status_code, made.json()["enabled"], made.json()["data"]) == (201, True, "a\n1\n")
    rule: dict[str, Any] = {"every_s": None, "cron": "30 6 * * *", "timezone": "Europe/Berlin"}
    again = await put(api, data={"n": 1}, priority=3, **rule)
    assert (again.status_code, again.json()["cron"], again.json()["data"]) == (200, "30 6 * * *", '{"n":1}')
    assert again.json()["next_at"][14:16] == "30"
    paused = (await api.operator.patch(f"{PATH}/daily", json={"enabled": False})).json()
    assert (paused["enabled"], paused["next_at"]) == (False, None)
    assert (await put(api)).json()["enabled"] is False, "a paused one stays so"
    resumed = (await api.operator.patch(f"{PATH}/daily", json={"enabled": True})).json()
    listed = (await api.operator.get(PATH)).json()["schedules"]
    assert listed == [resumed, *listed[1:]]
    assert (await api.operator.get(f"{PATH}/daily")).json() == resumed
    for _ in range(2):
        assert (await api.operator.delete(f"{PATH}/daily")).status_code == 204
    problem(await api.operator.get(f"{PATH}/daily"), 404, "not-found")
    problem(await api.operator.patch(f"{PATH}/daily", json={"enabled": True}), 404, "not-found")


async def test_what_is_wrong_with_a_schedule_is_named(api: RunningApi, pool: Pool) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"cron": "* * * * *"}, "cron"), ({"every_s": None}, "cron"), ({"every_s": None, "cron": "x"}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"), ({"device_ids": ["NO"]}, "device_ids"), ({"kind": "No"}, "kind"),
        ({"name": "a/b"}, "name"), ({"data": "a\x00"}, "data"),
    ]  # fmt: skip
    for changes, field in wrong:
        assert problem(await put(api, **changes), 400, "invalid-body")["field"] == field
    for changes in ({"every_s": 5}, {"device_ids": []}, {"priority": 10}, {"more": 1}):
        problem(await put(api, **changes), 400, "invalid-body")
    problem(await put(api, device_ids=["truck-7", "nobody"]), 404, "not-found")
    problem(await put(api, "Daily"), 400, "invalid-parameter")
    assert await schedules.listed(pool) == []


async def test_saying_the_same_again_does_not_put_a_schedule_off(api: RunningApi, pool: Pool) -> None:
    """Whoever says it more often than it fires would else see to it that it never does."""
    await put(api)
    await pool.fetch("UPDATE schedules SET next_at = clock_timestamp() - interval '1 second'")
    again = await put(api, data="b\n2\n", device_ids=["truck-7"])
    assert (again.status_code, again.json()["data"]) == (200, "b\n2\n")
    assert [due.schedule.name for due in await schedules.due(pool)] == ["daily"]
    await put(api, every_s=1800)
    assert await schedules.due(pool) == [], "another rule begins now"


async def test_one_whose_time_zone_is_not_known_here_can_be_paused_and_not_resumed(api: RunningApi, pool: Pool) -> None:
    await put(api, every_s=None, cron="30 6 * * *")
    await pool.fetch("UPDATE schedules SET timezone = 'Mars/Olympus'")
    paused = await api.operator.patch(f"{PATH}/daily", json={"enabled": False})
    assert (paused.status_code, paused.json()["enabled"]) == (200, False)
    problem(await api.operator.patch(f"{PATH}/daily", json={"enabled": True}), 409, "wrong-state")
    assert (await api.operator.get(f"{PATH}/daily")).json()["enabled"] is False


async def test_there_is_a_bound_on_schedules(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "SCHEDULES_MAX", 2)
    assert [(await put(api, name)).status_code for name in ("a", "b", "a")] == [201, 201, 200]
    problem(await put(api, "c"), 409, "wrong-state")


async def test_one_firing_writes_no_more_than_a_statement_can(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "FIRING_MAX_BYTES", 100)
    assert (await put(api, data="x" * 100, device_ids=["truck-7", "truck-7"])).status_code == 201
    assert problem(await put(api, data="x" * 101), 400, "invalid-body")["field"] == "data"


async def test_only_operators_make_schedules(api: RunningApi) -> None:
    for client in (api.device("truck-7"), api.service):
        problem(await client.put(f"{PATH}/daily", json=BODY), 403, "forbidden")
        problem(await client.get(PATH), 403, "forbidden")


async def test_a_job_of_somebody_else_cannot_stand_in_a_schedules_way(api: RunningApi) -> None:
    body = {"device_id": "truck-7", "kind": "table", "name": "a.csv", "data": "a", "unique_key": "schedule:daily"}
    answer = await api.device("truck-7").post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert problem(answer, 400, "invalid-body")["field"] == "unique_key"
