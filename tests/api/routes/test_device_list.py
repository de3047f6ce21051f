"""Devices as a list, for operators."""

import pytest

from shared.store import devices
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, problem, record

PATH = "/api/v1/devices"


@pytest.fixture(autouse=True)
async def fleet(pool: Pool) -> None:
    await devices.ensure_all(pool, {f"truck-{n}": "truck" for n in range(1, 6)} | {"office-1": "office"})
    await record(pool, "truck-3", "a", "b")


async def test_pages_follow_each_other_by_their_cursor(api: RunningApi) -> None:
    client = api.operator
    first = (await client.get(PATH, params={"limit": 4})).json()
    assert [one["device_id"] for one in first["devices"]] == ["office-1", "truck-1", "truck-2", "truck-3"]
    assert first["devices"][3] == {
        "device_id": "truck-3",
        "class": "truck",
        "position": "1:0",
        "head": 2,
        "lag": 2,
        "hub": None,
    }
    second = (await client.get(PATH, params={"limit": 4, "cursor": first["next"]})).json()
    assert ([one["device_id"] for one in second["devices"]], second["next"]) == (["truck-4", "truck-5"], None)


async def test_filters_are_by_prefix_class_hub_and_state(api: RunningApi) -> None:
    client = api.operator
    for query, wanted in (
        ({"prefix": "off"}, ["office-1"]),
        ({"class": "office"}, ["office-1"]),
        ({"state": "behind"}, ["truck-3"]),
        ({"state": "connected"}, []),
        ({"hub": "hub-1"}, []),
        ({"prefix": "truck-3", "state": "away"}, ["truck-3"]),
    ):
        found = (await client.get(PATH, params=query)).json()
        assert [one["device_id"] for one in found["devices"]] == wanted, query


async def test_what_makes_no_sense_is_refused_by_name(api: RunningApi) -> None:
    client = api.operator
    cursor = (await client.get(PATH, params={"limit": 1})).json()["next"]
    for query, field in (
        ({"prefix": "Truck"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"class": "9"}, "class"),
        ({"hub": "a b"}, "hub"),
        ({"state": "lost"}, "state"),
        ({"cursor": cursor, "state": "away"}, "cursor"),
    ):
        refused = problem(await client.get(PATH, params=query), 400, "invalid-parameter")
        assert refused["field"] == field
    assert (await api.device("truck-1").get(PATH)).status_code == 403
