"""Sync against a plain model: two instances and a hub at once, batches repeated, links cut and sessions ended anywhere.

One device has its inspections for itself, so all that it is told is known beforehand. The others share theirs with
operators: there the versions say in which order things happened, and in it the model must get to the same state.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from random import Random
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.app import Keys, Running, serve
from hub.settings import Settings as HubSettings
from loadtests.sync_actors import TEMPLATE, VERBS, Actor, Plan, Sender, effect_of, in_order_of_versions, states
from loadtests.sync_model import Model
from shared.lifecycle import Stop
from shared.settings import load
from tests.api.conftest import TOKEN_KEYS, StartApi, token
from tests.hub.conftest import environment as hub_environment
from tests.shared.sync.samples import add_template, an_id

ALONE, *TOGETHER = "device:alone", "device:shared", "operator:olga", "operator:otto"
# Each takes about half a second; many more are for a machine that has nothing else to do.
EXAMPLES = int(os.environ.get("FLEETWIRE_TEST_SYNC_EXAMPLES", "7"))


@st.composite
def plans(draw: st.DrawFn) -> dict[str, list[list[Plan]]]:
    plan = st.builds(
        Plan,
        verb=st.sampled_from((*VERBS, "update", "update", "submit", "create")),
        which=st.integers(0, 2),
        behind=st.sampled_from([0, 0, 0, 0, 0, 1]),
        answers=st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 9), max_size=2),
        repeat=st.sampled_from([None, None, None, 0, 1]),
    )
    batch = st.lists(plan, min_size=1, max_size=8)
    return {who: draw(st.lists(batch, min_size=1, max_size=4)) for who in (ALONE, *TOGETHER)}


@pytest.fixture
async def hub_url(database_url: str, redis_url: str) -> AsyncIterator[str]:
    changes = {"FLEETWIRE_TOKEN_KEYS": TOKEN_KEYS, "FLEETWIRE_HUB_FLAPS_MAX": "0"}
    hub_settings = load(HubSettings, hub_environment("hub-1", database_url, redis_url, changes))
    stop = Stop()
    running: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(hub_settings, Keys(hub_settings), stop, on_running=running.set_result))
    async with asyncio.timeout(20):
        port = (await running).port
    yield f"ws://127.0.0.1:{port}/v1/socket"
    stop.request("test is over")
    await task


@pytest.fixture
async def apis(start_api: StartApi, sql: asyncpg.Connection) -> list[str]:
    await add_template(sql, UUID(TEMPLATE))
    return [(await start_api()).url, (await start_api()).url]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans(), seed=st.integers(0, 2**32))
async def test_whatever_is_cut_and_repeated_all_ways_get_where_the_model_gets(
    apis: list[str], hub_url: str, sql: asyncpg.Connection, plan: dict[str, list[list[Plan]]], seed: int
) -> None:
    one_at_a_time = asyncio.Lock()

    async def end_sessions() -> None:
        async with one_at_a_time:
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'fleetwire-%' AND datname = current_database()"
            )

    sender = Sender(apis, [hub_url], lambda kind, subject: token(subject, kind), end_sessions, Random(seed))
    alone, shared = [an_id() for _ in range(3)], [an_id() for _ in range(3)]
    actors = {who: Actor(who, alone if who == ALONE else shared, sender) for who in plan}
    await asyncio.gather(*(actors[who].run(batches) for who, batches in plan.items()))

    model = Model()
    for operations, results in actors[ALONE].sent:
        assert [effect_of(one) for one in results] == model.batch(ALONE, operations)
    assert await states(sql, alone) == model.inspections
    together = in_order_of_versions([actors[who] for who in TOGETHER])
    assert await states(sql, shared) == together.inspections
