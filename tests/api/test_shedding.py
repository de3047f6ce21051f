"""A Postgres that is too slow for all: lists are sent away first, then the rest, and acks never."""

import asyncio

import asyncpg
import httpx

from shared.queue_watch import Pressure
from tests.api.conftest import RunningApi, StartApi, problem

TOO_MANY = "too many requests wait for the database already"


async def pressure(api: RunningApi) -> float:
    text = (await api.client().get(f"{api.ops_url}/metrics")).text
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith("fleetwire_api_shed_pressure"))


async def until(api: RunningApi, low: Pressure, high: Pressure) -> None:
    async with asyncio.timeout(20):
        while not low <= await pressure(api) <= high:
            await asyncio.sleep(0.02)


async def test_lists_go_first_then_the_rest_and_acks_stay(
    start_api: StartApi, database_url: str, sql: asyncpg.Connection
) -> None:
    # So long that the lock outlasts the test.
    await sql.execute(f"ALTER DATABASE \"{database_url.rsplit('/', 1)[1]}\" SET lock_timeout = '30s'")
    api = await start_api(
        FLEETWIRE_DB_POOL_MAX=2,
        FLEETWIRE_API_PROBE_S=60,
        FLEETWIRE_API_SHED_TARGET_S=0.05,
        FLEETWIRE_API_SHED_INTERVAL_S=0.3,
    )
    operator, truck = api.operator, api.device("truck-7")
    assert (await truck.get("/api/v1/devices/truck-7/events")).status_code == 200
    locked = sql.transaction()
    await locked.start()
    await sql.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
    # As many as there are connections stand still in Postgres, the others before it.
    stuck = [asyncio.create_task(operator.get("/api/v1/jobs")) for _ in range(4)]

    await until(api, Pressure.SOME, Pressure.MUCH)
    refused = await operator.get("/api/v1/jobs")
    assert problem(refused, 503, "unavailable")["detail"] == TOO_MANY
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    await until(api, Pressure.MUCH, Pressure.MUCH)
    refused = await operator.put("/api/v1/devices/truck-7", json={"class": "truck"})
    assert problem(refused, 503, "unavailable")["detail"] == TOO_MANY
    ack = asyncio.create_task(truck.post("/api/v1/devices/truck-7/acks", json={"position": "1:0"}))
    assert (await api.client().get("/health")).status_code == 200
    assert not ack.done()

    await locked.rollback()
    assert (await ack).status_code == 200
    answers: list[httpx.Response] = await asyncio.gather(*stuck)
    assert [answer.status_code for answer in answers] == [200] * 4
    await until(api, Pressure.NONE, Pressure.NONE)
    assert (await operator.get("/api/v1/jobs")).status_code == 200
