from shared.store import devices
from shared.store.cursors import Ack, Greeting, greet, record_acks
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, hub, problem, record

PATH = "/api/v1/devices/truck-7"


async def test_an_operator_makes_a_device_and_changes_its_class(api: RunningApi, pool: Pool) -> None:
    made = await api.operator.put(PATH, json={"class": "truck"})
    assert made.status_code == 201
    assert (made.json()["device_id"], made.json()["class"], made.json()["position"]) == ("truck-7", "truck", "1:0")
    await record(pool, "truck-7", "a")
    changed = await api.operator.put(PATH, json={"class": "office"})
    assert (changed.status_code, changed.json()["class"], changed.json()["head"]) == (200, "office", 1)
    assert (await api.operator.put(PATH, json={"class": "office"})).json() == changed.json()


async def test_an_operator_sees_how_far_behind_it_is_and_where_it_is_connected(api: RunningApi, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    await record(pool, "truck-7", *"abcd")
    await record_acks(pool, [Ack("truck-7", 1, 3)])
    body = (await api.operator.get(PATH)).json()
    assert (body["position"], body["head"], body["floor"], body["lag"]) == ("1:3", 4, 0, 1)
    assert body["connection"] is None
    await greet(pool, [Greeting("truck-7", "run", 1, "hub-1")])
    connection = (await api.operator.get(PATH)).json()["connection"]
    assert (connection["hub"], connection["hub_alive"]) == ("hub-1", False)
    await hub(pool, "hub-1")
    assert (await api.operator.get(PATH)).json()["connection"]["hub_alive"] is True


async def test_what_is_no_class_is_refused_by_name(api: RunningApi) -> None:
    for value in ("", "Truck", "a b", "x" * 33, 7, None):
        assert problem(await api.operator.put(PATH, json={"class": value}), 400, "invalid-body")["field"] == "class"
    assert problem(await api.operator.put(PATH, json={}), 400, "invalid-body")["field"] == "class"
    problem(await api.operator.get(PATH), 404, "not-found")


async def test_devices_are_the_operators_business(api: RunningApi) -> None:
    problem(await api.device("truck-7").get(PATH), 403, "forbidden")
    problem(await api.service.put(PATH, json={"class": "truck"}), 403, "forbidden")
