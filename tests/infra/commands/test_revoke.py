"""`fleetwire revoke`, against a real API."""

import asyncio
import json
import time

import pytest

from infra.commands import revoke
from infra.commands.errors import CommandFailed
from infra.onebox.home import Home
from loadtests.ports import free_port
from shared.protocol.ids import InvalidId
from shared.store import devices
from shared.store.pool import Pool
from tests.api import conftest
from tests.api.conftest import RING, TOKEN_KEYS, RunningApi, problem

api, pool, start_api = conftest.api, conftest.pool, conftest.start_api

EVENTS = "/api/v1/devices/truck-7/events"


@pytest.fixture
def environ(home: Home, api: RunningApi) -> dict[str, str]:
    return {"FLEETWIRE_HOME": str(home.path), "FLEETWIRE_API_URL": api.url, "FLEETWIRE_TOKEN_KEYS": TOKEN_KEYS}


async def run(environ: dict[str, str], device_id: str, *, token_id: str | None = None) -> int:
    """A command speaks without a loop, so in a thread."""
    return await asyncio.to_thread(revoke.run, environ, device_id, token_id=token_id, reason="lost")


async def test_what_a_device_was_given_until_now_is_good_no_more(
    environ: dict[str, str], api: RunningApi, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    device = api.device("truck-7")
    assert (await device.get(EVENTS)).status_code == 200
    assert await run(environ, "truck-7") == 0
    [printed] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert json.loads(printed)["device_id"] == "truck-7"
    problem(await device.get(EVENTS), 401, "unauthorized")


async def test_one_token_is_revoked_by_its_id(environ: dict[str, str], api: RunningApi, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    lost, kept = (
        api.client(
            RING.mint(
                subject="truck-7", scopes=frozenset({"device"}), now=time.time(), lifetime_s=60, token_id=token_id
            )
        )
        for token_id in ("t-lost", "t-kept")
    )
    assert await run(environ, "truck-7", token_id="t-lost") == 0
    problem(await lost.get(EVENTS), 401, "unauthorized")
    assert (await kept.get(EVENTS)).status_code == 200


async def test_what_cannot_be_revoked_is_said_in_a_line(environ: dict[str, str]) -> None:
    with pytest.raises(CommandFailed, match="no such device"):
        await run(environ, "nobody")
    with pytest.raises(InvalidId):
        await run(environ, "Truck 7")
    with pytest.raises(CommandFailed, match="cannot be asked"):
        await run(environ | {"FLEETWIRE_API_URL": f"http://127.0.0.1:{free_port()}"}, "truck-7")
