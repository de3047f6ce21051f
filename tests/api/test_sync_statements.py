"""How many statements a batch costs, by the server's own log."""

from typing import Any

import asyncpg
import pytest

from loadtests.statements import LOGGING, Statement, read_log
from tests.api.conftest import StartApi
from tests.conftest import ServerFactory
from tests.shared.sync.samples import add_template, an_id, change, create

PATH = "/api/v1/sync/batch"
MOST = 12


@pytest.mark.processes
async def test_a_batch_of_a_hundred_costs_at_most_twelve_statements(
    start_api: StartApi, postgres_server: ServerFactory
) -> None:
    server = postgres_server(**LOGGING)
    # What runs by itself is kept out of the way.
    api = await start_api(FLEETWIRE_DATABASE_URL=server.url, FLEETWIRE_API_PROBE_S=60, FLEETWIRE_PHOTO_SWEEP_S=600)
    sql = await asyncpg.connect(server.url)
    await add_template(sql)
    truck = api.device("truck-7")
    counted: dict[str, int] = {}
    for _ in range(3):
        for name, batch in _batches().items():
            before = len(_asked(server.log()))
            answer = await truck.post(PATH, json={"operations": batch})
            assert answer.status_code == 200, answer.text
            # Its commit is logged before it is answered. What runs by itself now and then is no cost of a batch: the
            # least of three counts.
            asked = _asked(server.log())[before:]
            counted[name] = min(len(asked), counted.get(name, len(asked)))
            assert {one.text.split(";")[0] for one in asked} >= {"BEGIN", "COMMIT"}
    await sql.close()
    assert len(counted) == 5
    assert max(counted.values()) <= MOST, counted
    assert counted["repeated"] <= MOST // 2, counted


def _batches() -> dict[str, list[dict[str, Any]]]:
    """Batches that touch as many rows as they can, each kind of statement among them."""
    old, new = [an_id() for _ in range(40)], [an_id() for _ in range(30)]
    made = [create(entity) for entity in old]
    return {
        "first": made,
        "creates": [create(an_id()) for _ in range(100)],
        "mixed": [
            *(create(entity) for entity in new),
            *(change("update", entity, 1, title="T") for entity in new),
            *(change("submit", entity, 2) for entity in new),
            *(change("submit", entity, 9) for entity in old[:5]),
            *made[:5],
        ],
        "updates": [change("update", entity, 1, answers={"a": 1}) for entity in old[5:]],
        "repeated": made,
    }


def _asked(log: str) -> list[Statement]:
    return [one for one in read_log(log.splitlines(keepends=True)) if one.application.startswith("fleetwire-api")]
