from random import Random

import asyncpg
import pytest

from loadtests.sync_actors import TEMPLATE, Actor, Sender, in_order_of_versions
from loadtests.sync_faults import a_batch, differences
from loadtests.sync_model import Model

ENTITY = "0198b7c2-0000-7000-8000-000000000002"


async def nothing() -> None: ...


def an_actor(who: str, seed: int = 1) -> Actor:
    return Actor(who, [ENTITY], Sender([], [], lambda kind, subject: "", nothing, Random(seed)))


def told(actor: Actor, verb: str, version: int, *, status: str = "applied", op_id: str = "1") -> None:
    operation = {"op_id": op_id, "type": f"inspection.{verb}", "entity_id": ENTITY, "base_version": version - 1}
    operation["data"] = {"template_id": TEMPLATE, "title": "T", "answers": {}} if verb == "create" else {}
    http = 201 if verb == "create" else 200
    actor.sent.append(([operation], [{"op_id": op_id, "status": status, "http": http, "version": version}]))


async def test_what_was_told_and_what_is_held_must_be_what_the_model_says(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    truck = an_actor("device:truck-7")
    told(truck, "create", 1)
    told(truck, "submit", 3, op_id="2")
    problems = await differences(connection, [truck], [])
    await connection.close()
    assert len(problems) == 2
    assert "batch 1, operation 0: told ('done', 200, 3), the model says ('conflict', 409, 1)" in problems[0]
    assert "Postgres holds something else" in problems[1]


def test_two_that_were_told_the_same_version_contradict_each_other() -> None:
    truck, olga, otto = an_actor("device:truck-7"), an_actor("operator:olga"), an_actor("operator:otto")
    told(truck, "create", 1)
    told(olga, "update", 2, op_id="2")
    assert in_order_of_versions([truck, olga]).inspections[ENTITY]["version"] == 2
    told(otto, "update", 2, op_id="3")
    with pytest.raises(AssertionError):
        in_order_of_versions([truck, olga, otto])


def test_the_model_tells_a_repetition_what_it_told_first() -> None:
    model = Model()
    truck = an_actor("device:truck-7")
    told(truck, "create", 1)
    batch = truck.sent[0][0]
    assert model.batch("device:truck-7", batch) == model.batch("device:truck-7", batch) == [("done", 201, 1)]
    assert model.inspections[ENTITY]["version"] == 1


def test_batches_are_of_some_operations_on_inspections_that_there_are() -> None:
    rand = Random(1)
    batches = [a_batch(rand, 5) for _ in range(50)]
    assert {plan.which for batch in batches for plan in batch} == set(range(5))
    assert {1 <= len(batch) < 20 for batch in batches} == {True}
