"""Moves and drains by the API, asked of an operations port as hubs have it."""

from collections.abc import AsyncIterator

import pytest

from shared.store import hubs
from shared.store.hubs import HubRow
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, StartApi, problem
from tests.api.ops_port import OPS_TOKEN, OpsPort

PLAN, CARRY_OUT = "/api/v1/hubs/plan", "/api/v1/hubs/carry-out"


@pytest.fixture
async def ops() -> AsyncIterator[OpsPort]:
    port = OpsPort()
    await port.server.start()
    yield port
    await port.server.close()


@pytest.fixture
async def api(start_api: StartApi, pool: Pool, ops: OpsPort) -> RunningApi:
    for name, url in (("hub-1", f"http://127.0.0.1:{ops.server.port}"), ("hub-2", None)):
        await hubs.heartbeat(pool, HubRow(name, "run", f"ws://{name}", 3, 500, draining=False, ops_url=url))
    return await start_api(FLEETWIRE_OPS_TOKEN=OPS_TOKEN)


async def test_nothing_is_done_without_the_plan_that_was_looked_at(api: RunningApi, ops: OpsPort) -> None:
    client = api.operator
    body = {"action": "move", "hub": "hub-1"}
    plan = (await client.post(PLAN, json=body)).json()
    assert (plan["devices"], plan["stay"], plan["problems"]) == (2, 1, [])
    assert ops.asked == [("plan", {})]
    for confirm in ("made-up", plan["confirm"][:-2]):
        refused = problem(await client.post(CARRY_OUT, json=body | {"confirm": confirm}), 409, "wrong-state")
        assert refused["field"] == "confirm"
    other = body | {"action": "drain", "confirm": plan["confirm"]}
    problem(await client.post(CARRY_OUT, json=other), 409, "wrong-state")
    assert [what for what, _ in ops.asked] == ["plan"]
    done = await client.post(CARRY_OUT, json=body | {"confirm": plan["confirm"]})
    assert done.json() == {"devices": 2, "hubs": ["hub-1"]}
    assert ops.asked[-1] == ("move", {})


async def test_a_drain_is_planned_as_if_the_hub_were_gone(api: RunningApi, ops: OpsPort) -> None:
    client = api.operator
    body = {"action": "drain", "hub": "hub-1"}
    plan = (await client.post(PLAN, json=body)).json()
    assert ops.asked == [("plan", {"without": ["hub-1"]})]
    assert (await client.post(CARRY_OUT, json=body | {"confirm": plan["confirm"]})).json()["devices"] == 3
    assert ops.asked[-1] == ("drain", {})


async def test_a_hub_that_cannot_be_asked_is_named_and_the_plan_cannot_be_carried_out(api: RunningApi) -> None:
    plan = (await api.operator.post(PLAN, json={"action": "move"})).json()
    assert plan["problems"] == ["hub-2 says no operations address"]
    assert plan["confirm"] is None


async def test_what_a_hub_refuses_is_said_as_it_says_it(api: RunningApi, ops: OpsPort) -> None:
    client = api.operator
    body = {"action": "move", "hub": "hub-1"}
    plan = (await client.post(PLAN, json=body)).json()
    ops.answers["move"] = (409, {"detail": "the hub is leaving"})
    refused = problem(await client.post(CARRY_OUT, json=body | {"confirm": plan["confirm"]}), 409, "wrong-state")
    assert refused["detail"] == "hub-1: the hub is leaving"


async def test_moves_are_steered(api: RunningApi, ops: OpsPort) -> None:
    client = api.operator
    assert (await client.post("/api/v1/hubs/hub-1/moves", json={"do": "pause"})).json()["devices"] == 2
    assert ops.asked == [("pause", {})]
    problem(await client.post("/api/v1/hubs/hub-9/moves", json={"do": "pause"}), 404, "not-found")
    problem(await client.post("/api/v1/hubs/hub-2/moves", json={"do": "pause"}), 409, "wrong-state")
    problem(await client.post("/api/v1/hubs/hub-1/moves", json={"do": "dance"}), 400, "invalid-body")


async def test_what_makes_no_sense_is_refused_by_name_and_only_operators_ask(api: RunningApi) -> None:
    for body, status, slug, field in (
        ({"action": "drain"}, 422, "unprocessable", "hub"),
        ({"action": "drain", "hub": "hub-1", "to": "hub-2"}, 422, "unprocessable", "to"),
        ({"action": "move", "hub": "hub-9"}, 404, "not-found", "hub"),
        ({"action": "move", "to": "hub-9"}, 404, "not-found", "to"),
    ):
        assert problem(await api.operator.post(PLAN, json=body), status, slug)["field"] == field
    for client in (api.device("truck-7"), api.service):
        problem(await client.post(PLAN, json={"action": "move"}), 403, "forbidden")
