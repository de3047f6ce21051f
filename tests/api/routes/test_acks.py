import asyncpg

from shared.store import devices
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, problem, record

PATH = "/api/v1/devices/truck-7/acks"


async def test_an_ack_moves_the_cursor_up_and_never_down(api: RunningApi, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    await record(pool, "truck-7", *"abcde")
    device = api.device("truck-7")
    for position, expected in (("1:3", "1:3"), ("1:2", "1:3"), ("1:3", "1:3"), ("1:0", "1:3"), ("1:5", "1:5")):
        answer = await device.post(PATH, json={"position": position})
        assert answer.json() == {"position": expected, "head": 5}
    state = await devices.get(pool, "truck-7")
    assert state is not None
    assert state.acked == 5


async def test_an_ack_of_another_epoch_is_told_the_current_position(
    api: RunningApi, pool: Pool, sql: asyncpg.Connection
) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    await record(pool, "truck-7", *"abcde")
    await sql.execute("UPDATE devices SET epoch = 3")
    await sql.execute("UPDATE cursors SET epoch = 3, acked_seq = 2")
    for position in ("2:5", "4:1"):
        answer = await api.device("truck-7").post(PATH, json={"position": position})
        assert problem(answer, 409, "epoch-changed")["position"] == "3:2"
    assert await sql.fetchval("SELECT acked_seq FROM cursors") == 2


async def test_an_ack_above_the_head_is_refused_with_the_head(api: RunningApi, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    await record(pool, "truck-7", *"ab")
    answer = problem(await api.device("truck-7").post(PATH, json={"position": "1:3"}), 422, "ack-above-head")
    assert (answer["head"], answer["field"]) == (2, "position")
    state = await devices.get(pool, "truck-7")
    assert state is not None
    assert state.acked == 0


async def test_what_is_no_position_is_refused_by_name(api: RunningApi) -> None:
    device = api.device("truck-7")
    values: list[object] = [
        "",
        "1:-1",
        "-1:2",
        "7",
        "1:1.5",
        "1:x",
        ":",
        "0:3",
        "1:99999999999999999",
        7,
        None,
        ["1:2"],
        {},
    ]
    for value in values:
        answer = await device.post(PATH, json={"position": value})
        assert problem(answer, 400, "invalid-body")["field"] == "position"
    assert problem(await device.post(PATH, json={}), 400, "invalid-body")["field"] == "position"
    extra = await device.post(PATH, json={"position": "1:0", "seq": 4})
    assert problem(extra, 400, "invalid-body")["field"] == "seq"


async def test_the_first_ack_of_a_new_device_finds_an_empty_log(api: RunningApi) -> None:
    answer = await api.device("truck-7").post(PATH, json={"position": "1:0"})
    assert answer.json() == {"position": "1:0", "head": 0}
