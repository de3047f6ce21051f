"""A client that gives the token of its writes reads lists that hold them, whoever answers."""

import asyncio
from random import Random

import asyncpg
import pytest

from api.problems import Problem
from api.read_after import WROTE, stamp_problem
from shared.settings import load
from shared.store import devices
from shared.store.pool import open_pool
from shared.store.replicas import Replicas
from shared.store.settings import ReplicaSettings
from shared.telemetry.metrics import DB_READS
from tests.api.conftest import RunningApi, StartApi, problem
from tests.conftest import Pair

PATH = "/api/v1/jobs"


@pytest.fixture
async def fresh_pair(shared_postgres_pair: Pair) -> Pair:
    pool = await open_pool(shared_postgres_pair[0].url, name="test")
    await devices.ensure(pool, "truck-7", "truck")
    await pool.close()
    return shared_postgres_pair


async def until_copies_are_used(api: RunningApi) -> None:
    used = DB_READS.labels("replica", "new_enough")
    before = used._value.get()
    async with asyncio.timeout(20):
        while used._value.get() == before:
            assert (await api.operator.get(PATH)).status_code == 200
            await asyncio.sleep(0.02)


async def test_a_list_read_after_a_write_holds_it_on_any_instance(start_api: StartApi, fresh_pair: Pair) -> None:
    urls = {"FLEETWIRE_DATABASE_URL": fresh_pair[0].url, "FLEETWIRE_DATABASE_REPLICA_URL": fresh_pair[1].url}
    one, other = await start_api(**urls), await start_api(**urls)
    writer, reader = one.operator, other.operator
    for api in (one, other):
        await until_copies_are_used(api)
    for number in range(60):
        body = {"device_id": "truck-7", "kind": "table", "name": f"{number}.csv", "data": "a\n"}
        written = await writer.post(PATH, json=body, headers={"Idempotency-Key": f"k{number}"})
        assert written.status_code == 201, written.text
        after = {"Fleetwire-Read-After": written.headers[WROTE]}
        listed = (await reader.get(PATH, params={"limit": "1"}, headers=after)).json()["jobs"]
        assert listed[0]["job_id"] == written.json()["job_id"]
    assert WROTE not in (await reader.get(PATH)).headers, "reads write nothing"

    copy = await asyncpg.connect(fresh_pair[1].url)
    await copy.execute("SELECT pg_wal_replay_pause()")
    try:
        body = {"device_id": "truck-7", "kind": "table", "name": "paused.csv", "data": "a\n"}
        written = await writer.post(PATH, json=body, headers={"Idempotency-Key": "paused"})
        after = {"Fleetwire-Read-After": written.headers[WROTE]}
        listed = (await reader.get(PATH, params={"limit": "1"}, headers=after)).json()["jobs"]
        assert listed[0]["name"] == "paused.csv"
    finally:
        await copy.execute("SELECT pg_wal_replay_resume()")
        await copy.close()


async def test_a_token_that_was_never_given_out_is_refused_and_without_copies_none_is_given(api: RunningApi) -> None:
    for wrong in ("", "soon", "1:zz/1", "0:0/1"):
        answer = await api.operator.get(PATH, headers={"Fleetwire-Read-After": wrong})
        assert problem(answer, 400, "invalid-parameter")["field"] == "Fleetwire-Read-After"
    twice = await api.operator.get(PATH, headers=[("Fleetwire-Read-After", "1:0/1")] * 2)
    problem(twice, 400, "invalid-parameter")
    assert (await api.operator.get(PATH, headers={"Fleetwire-Read-After": "9:FF/1"})).status_code == 200
    assert (await api.operator.get(PATH, headers={"Fleetwire-Read-After": "primary"})).status_code == 200
    written = await api.operator.put("/api/v1/devices/truck-9", json={"class": "truck"})
    assert written.is_success
    assert WROTE not in written.headers


async def test_a_problem_that_shows_a_state_has_the_token_too(fresh_pair: Pair) -> None:
    pool = await open_pool(fresh_pair[0].url, name="test")
    urls = {"FLEETWIRE_DATABASE_URL": fresh_pair[0].url, "FLEETWIRE_DATABASE_REPLICA_URL": fresh_pair[1].url}
    replicas = Replicas(pool, load(ReplicaSettings, urls), Random(1))
    stale = Problem("epoch-changed", "test")
    await stamp_problem(replicas, "POST", stale)
    assert stale.headers[WROTE].startswith("1:")
    for problem_, method in ((Problem("not-found", "test"), "POST"), (Problem("epoch-changed", "test"), "GET")):
        await stamp_problem(replicas, method, problem_)
        assert WROTE not in problem_.headers
    await pool.close()
