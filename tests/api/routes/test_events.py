import asyncio
import json

import asyncpg
import httpx
import pytest

from shared.store import devices
from shared.store.cursors import Ack, record_acks
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, StartApi, http_client, problem, record, token

PATH = "/api/v1/devices/truck-7/events"


@pytest.fixture
async def truck(pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")


async def waiting(api: RunningApi, count: int = 1) -> None:
    """Until so many long-polls wait."""
    async with asyncio.timeout(10), http_client() as client:
        while True:
            text = (await client.get(f"{api.ops_url}/metrics")).text
            if f"\nfleetwire_api_long_polls {float(count)}\n" in text:
                return
            await asyncio.sleep(0.005)


@pytest.mark.usefixtures("truck")
async def test_a_page_begins_after_the_position_and_says_where_to_go_on(api: RunningApi, pool: Pool) -> None:
    await record(pool, "truck-7", *"abcde")
    device = api.device("truck-7")
    page = (await device.get(PATH, params={"after": "1:1", "limit": "3"})).json()
    assert page == {
        "position": "1:4",
        "head": 5,
        "more": True,
        "events": [{"seq": n, "event": {"id": name, "data": {}}} for n, name in ((2, "b"), (3, "c"), (4, "d"))],
    }
    page = (await device.get(PATH, params={"after": page["position"]})).json()
    assert (page["position"], page["more"], len(page["events"])) == ("1:5", False, 1)
    page = (await device.get(PATH, params={"after": page["position"]})).json()
    assert page == {"position": "1:5", "head": 5, "more": False, "events": []}


@pytest.mark.usefixtures("truck")
async def test_the_bytes_of_an_event_are_those_that_were_recorded(api: RunningApi, sql: asyncpg.Connection) -> None:
    odd = '{"z" : 1.0, "a":"\\u00fc", "big": 12345678901234567890123}'
    await sql.execute(
        "INSERT INTO events (device_id, seq, event_id, type, body) VALUES ('truck-7', 1, 'e', 'T', $1)", odd
    )
    await sql.execute("UPDATE devices SET head_seq = 1")
    assert odd in (await api.device("truck-7").get(PATH, params={"after": "1:0"})).text


async def test_the_first_valid_token_makes_the_device_of_its_class(api: RunningApi, pool: Pool) -> None:
    client = api.client(token("depot-2", device_class="warehouse"))
    page = await client.get("/api/v1/devices/depot-2/events")
    assert page.json() == {"position": "1:0", "head": 0, "more": False, "events": []}
    state = await devices.get(pool, "depot-2")
    assert state is not None
    assert state.device_class == "warehouse"


async def test_an_operator_looks_but_makes_no_device(api: RunningApi, pool: Pool) -> None:
    problem(await api.operator.get(PATH), 404, "not-found")
    assert await devices.get(pool, "truck-7") is None
    await devices.ensure(pool, "truck-7", "truck")
    assert (await api.operator.get(PATH)).status_code == 200


@pytest.mark.usefixtures("truck")
async def test_without_after_events_follow_the_acked_position(api: RunningApi, pool: Pool) -> None:
    await record(pool, "truck-7", *"abc")
    await record_acks(pool, [Ack("truck-7", 1, 2)])
    assert [event["seq"] for event in (await api.device("truck-7").get(PATH)).json()["events"]] == [3]


async def test_reading_moves_no_cursor(api: RunningApi, pool: Pool, truck: None) -> None:
    await record(pool, "truck-7", *"abc")
    for _ in range(2):
        assert len((await api.device("truck-7").get(PATH)).json()["events"]) == 3
    state = await devices.get(pool, "truck-7")
    assert state is not None
    assert state.acked == 0


@pytest.mark.usefixtures("truck")
async def test_a_page_ends_at_its_bytes_but_always_holds_one_event(start_api: StartApi, pool: Pool) -> None:
    api = await start_api(FLEETWIRE_API_PAGE_MAX_BYTES=1024)
    await record(pool, "truck-7", "x" * 5000, "y" * 5000, "z")
    seqs = []
    after = "1:0"
    for _ in range(2):
        page = (await api.device("truck-7").get(PATH, params={"after": after})).json()
        seqs.append([event["seq"] for event in page["events"]])
        after = page["position"]
    assert seqs == [[1], [2]]


@pytest.mark.usefixtures("truck")
async def test_every_row_of_the_resume_table(api: RunningApi, pool: Pool, sql: asyncpg.Connection) -> None:
    await record(pool, "truck-7", *"abcdef")
    await sql.execute("UPDATE devices SET floor_seq = 2, epoch = 3")
    await sql.execute("UPDATE cursors SET acked_seq = 4, epoch = 3")
    await sql.execute("DELETE FROM events WHERE seq <= 2")
    device = api.device("truck-7")

    async def get(after: str) -> httpx.Response:
        return await device.get(PATH, params={"after": after})

    for malformed in (
        "",
        "7",
        "1:",
        ":1",
        "1:-1",
        "0:0",
        "a:b",
        "1:2:3",
        "1:+2",
        "١:٢",
        "1:99999999999999999",
        "5000:0",
    ):
        assert problem(await get(malformed), 400, "invalid-parameter")["field"] == "after"
    body = problem(await get("2:6"), 410, "reset")
    assert (body["position"], body["reason"]) == ("3:4", "epoch")
    body = problem(await get("3:1"), 410, "reset")
    assert (body["position"], body["reason"]) == ("3:2", "retention")
    assert [event["seq"] for event in (await get("3:2")).json()["events"]] == [3, 4, 5, 6]
    assert (await get("3:6")).json()["events"] == []
    # Above the head: the log may have lost its end. The epoch is raised above both, once.
    body = problem(await get("3:7"), 410, "reset")
    assert (body["position"], body["reason"]) == ("4:4", "log_loss")
    body = problem(await get("9:0"), 410, "reset")
    assert (body["position"], body["reason"]) == ("10:4", "log_loss")
    assert [event["seq"] for event in (await get("10:4")).json()["events"]] == [5, 6]


@pytest.mark.usefixtures("truck")
async def test_a_hole_left_by_retention_is_said_to_a_device_that_names_no_position(
    api: RunningApi, pool: Pool, sql: asyncpg.Connection
) -> None:
    await record(pool, "truck-7", *"abcdef")
    await sql.execute("UPDATE devices SET floor_seq = 3")
    await sql.execute("UPDATE cursors SET acked_seq = 1")
    await sql.execute("DELETE FROM events WHERE seq <= 3")
    device = api.device("truck-7")
    body = problem(await device.get(PATH), 410, "reset")
    assert (body["position"], body["reason"]) == ("1:3", "retention")
    assert [event["seq"] for event in (await device.get(PATH, params={"after": "1:3"})).json()["events"]] == [4, 5, 6]
    await sql.execute("UPDATE cursors SET acked_seq = 3")
    assert [event["seq"] for event in (await device.get(PATH)).json()["events"]] == [4, 5, 6]


@pytest.mark.usefixtures("truck")
async def test_a_device_that_lies_hurts_only_itself(api: RunningApi, pool: Pool, sql: asyncpg.Connection) -> None:
    await devices.ensure(pool, "truck-8", "truck")
    problem(await api.device("truck-7").get(PATH, params={"after": "1:77"}), 410, "reset")
    problem(await api.device("truck-7").get(PATH, params={"after": "2147483647:0"}), 400, "invalid-parameter")
    epochs = await sql.fetch("SELECT device_id, epoch FROM devices ORDER BY device_id")
    assert [tuple(row) for row in epochs] == [("truck-7", 2), ("truck-8", 1)]
    assert await sql.fetchval("SELECT epoch FROM log_identity") == 1


@pytest.mark.usefixtures("truck")
async def test_an_operator_cannot_raise_an_epoch_by_asking(api: RunningApi, sql: asyncpg.Connection) -> None:
    problem(await api.operator.get(PATH, params={"after": "1:77"}), 400, "invalid-parameter")
    assert await sql.fetchval("SELECT epoch FROM devices") == 1


@pytest.mark.parametrize(
    ("field", "values"),
    [("limit", ["0", "-1", "501", "x", "1.5", "", "1e3", "9" * 30]), ("wait", ["-1", "26", "abc", "2.5", " 1"])],
)
async def test_wrong_integers_are_refused_by_name(api: RunningApi, field: str, values: list[str]) -> None:
    for value in values:
        body = problem(await api.device("truck-7").get(PATH, params={field: value}), 400, "invalid-parameter")
        assert body["field"] == field
        assert field in body["detail"]


async def test_a_parameter_given_twice_is_refused_and_an_unknown_one_ignored(api: RunningApi) -> None:
    device = api.device("truck-7")
    assert problem(await device.get(f"{PATH}?wait=0&wait=1"), 400, "invalid-parameter")["field"] == "wait"
    assert (await device.get(f"{PATH}?color=red&color=blue")).status_code == 200
    problem(await device.get(f"{PATH}?a=%ff"), 400, "invalid-request")


@pytest.mark.usefixtures("truck")
async def test_a_long_poll_ends_with_the_event_it_waited_for(api: RunningApi, pool: Pool) -> None:
    poll = asyncio.create_task(api.device("truck-7").get(PATH, params={"after": "1:0", "wait": "25"}))
    await waiting(api)
    await record(pool, "truck-7", "a")
    page = (await poll).json()
    assert (page["position"], [event["seq"] for event in page["events"]]) == ("1:1", [1])
    await waiting(api, 0)


@pytest.mark.usefixtures("truck")
async def test_a_long_poll_without_events_ends_with_an_empty_page(api: RunningApi) -> None:
    page = await api.device("truck-7").get(PATH, params={"after": "1:0", "wait": "1"})
    assert page.json() == {"position": "1:0", "head": 0, "more": False, "events": []}


@pytest.mark.usefixtures("truck")
async def test_a_raised_epoch_ends_a_long_poll_with_a_reset(api: RunningApi, sql: asyncpg.Connection) -> None:
    poll = asyncio.create_task(api.device("truck-7").get(PATH, params={"after": "1:0", "wait": "25"}))
    await waiting(api)
    await sql.execute("UPDATE devices SET epoch = 2")
    body = problem(await poll, 410, "reset")
    assert (body["position"], body["reason"]) == ("2:0", "epoch")


@pytest.mark.usefixtures("truck")
async def test_above_the_bound_nobody_more_waits(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_API_WAITING_MAX=1)
    poll = asyncio.create_task(api.device("truck-7").get(PATH, params={"wait": "25"}))
    await waiting(api)
    refused = await api.device("truck-8").get("/api/v1/devices/truck-8/events", params={"wait": "5"})
    problem(refused, 503, "too-many-waiting")
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    assert (await api.device("truck-8").get("/api/v1/devices/truck-8/events")).status_code == 200
    api.stop.request("test")
    assert (await poll).json()["events"] == []


@pytest.mark.usefixtures("truck")
async def test_a_client_that_goes_leaves_its_place(api: RunningApi) -> None:
    poll = asyncio.create_task(api.device("truck-7").get(PATH, params={"wait": "25"}))
    await waiting(api)
    poll.cancel()
    await waiting(api, 0)


@pytest.mark.usefixtures("truck")
async def test_of_one_devices_waits_too_many_the_oldest_ends(api: RunningApi) -> None:
    polls = [asyncio.create_task(api.device("truck-7").get(PATH, params={"wait": "25"}))]
    await waiting(api, 1)
    polls += [asyncio.create_task(api.device("truck-7").get(PATH, params={"wait": "25"})) for _ in range(4)]
    async with asyncio.timeout(10):
        assert (await polls[0]).json()["events"] == []
    await waiting(api, 4)
    for poll in polls[1:]:
        poll.cancel()


async def test_two_instances_share_one_cursor_whoever_is_asked(start_api: StartApi, pool: Pool, truck: None) -> None:
    first, second = await start_api(), await start_api()
    clients = [first.device("truck-7"), second.device("truck-7")]
    names = [f"event-{n}" for n in range(60)]
    for begin in range(0, 60, 20):
        await record(pool, "truck-7", *names[begin : begin + 20])
    seen: list[str] = []
    turn = 0
    while len(seen) < 60:
        page = (await clients[turn % 2].get(PATH, params={"limit": "7"})).json()
        seen += [event["event"]["id"] for event in page["events"]]
        turn += 1
        acked = await clients[turn % 2].post("/api/v1/devices/truck-7/acks", json={"position": page["position"]})
        assert acked.json()["position"] == page["position"]
        turn += 1 if turn % 3 else 0
    assert seen == names


async def test_a_device_may_flip_between_rest_and_socket_acks_at_any_event(
    api: RunningApi, pool: Pool, truck: None
) -> None:
    await record(pool, "truck-7", *(f"event-{n}" for n in range(30)))
    device = api.device("truck-7")
    seen: list[int] = []
    while len(seen) < 30:
        page = (await device.get(PATH, params={"limit": "3"})).json()
        seqs = [event["seq"] for event in page["events"]]
        seen += seqs
        if seqs[-1] % 2:
            await device.post("/api/v1/devices/truck-7/acks", json={"position": page["position"]})
        else:  # as a hub records what came over the socket
            await record_acks(pool, [Ack("truck-7", 1, seqs[-1])])
        # A late, lower ack of the other way moves nothing back.
        await record_acks(pool, [Ack("truck-7", 1, max(0, seqs[0] - 2))])
    assert seen == list(range(1, 31))


async def test_a_page_is_read_as_json_whatever_its_events_hold(api: RunningApi, pool: Pool, truck: None) -> None:
    await record(pool, "truck-7", 'quote " and \\ slash', "ünïcödé 🚚")
    events = json.loads((await api.device("truck-7").get(PATH)).content)["events"]
    assert [event["event"]["id"] for event in events] == ['quote " and \\ slash', "ünïcödé 🚚"]
