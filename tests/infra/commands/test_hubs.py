"""The hubs of a running set-up, seen and moved from the command line."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from infra.command_settings import CommandSettings
from infra.commands import hubs as commands
from infra.commands.errors import CommandFailed
from infra.commands.hub_fleet import HubAway, HubFleet, open_hub_fleet
from infra.commands.roll import roll
from loadtests.ports import free_port
from shared.hash_slots import owner, slot_of
from shared.settings import load
from shared.store import hubs
from shared.store.hubs import HubRow
from shared.store.pool import Pool
from tests.hub import conftest
from tests.hub.conftest import Fleet, RunningHub, StartHub, until

fleet, pool, publisher, start_hub = conftest.fleet, conftest.pool, conftest.publisher, conftest.start_hub

TOKEN = "an operations token of the test"
ON = {"FLEETWIRE_HUB_REBALANCE": "on", "FLEETWIRE_HUB_MOVES_PER_S": "200", "FLEETWIRE_OPS_TOKEN": TOKEN}


@pytest.fixture
def environ(database_url: str) -> dict[str, str]:
    return {"FLEETWIRE_DATABASE_URL": database_url, "FLEETWIRE_OPS_TOKEN": TOKEN}


async def run(work: "object", *arguments: object, **options: object) -> int:
    """A command runs a loop of its own, so in a thread."""
    assert callable(work)
    status: int = await asyncio.to_thread(lambda: work(*arguments, **options))
    return status


async def settled(*running: RunningHub) -> None:
    names = sorted(hub.name for hub in running)
    await until(lambda: all(hub.running.mover.rebalance.base.names == names for hub in running), 20)


async def test_every_hub_is_listed_with_its_devices_and_those_of_others(
    environ: dict[str, str], fleet: Fleet, start_hub: StartHub, capsys: pytest.CaptureFixture[str]
) -> None:
    running = [await start_hub(name, FLEETWIRE_OPS_TOKEN=TOKEN) for name in ("hub-a", "hub-b")]
    await settled(*running)
    for _ in range(5):
        await (await fleet.connect(running[0].url, await fleet.new_device())).welcome()
    assert await run(commands.ls, environ, as_json=True) == 0
    # Between the lines that the hubs log here.
    [printed] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    states = json.loads(printed)
    assert (states["hub-a"]["connections"], states["hub-b"]["connections"]) == (5, 0)
    assert states["hub-a"]["own"] + states["hub-a"]["strangers"] == 5
    assert await run(commands.ls, environ, as_json=False) == 0
    assert "hub-b" in capsys.readouterr().out


async def test_a_plan_is_what_a_move_then_does(
    environ: dict[str, str], fleet: Fleet, start_hub: StartHub, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["hub-a", "hub-b"]
    quiet = {"FLEETWIRE_OPS_TOKEN": TOKEN, "FLEETWIRE_HUB_MOVES_PER_S": "100", "FLEETWIRE_HUB_LINGER_S": "0.2"}
    running = [await start_hub(name, **quiet) for name in names]
    await settled(*running)
    trucks = [await fleet.new_device() for _ in range(12)]
    for truck in trucks:
        await (await fleet.connect(running[0].url, truck)).welcome()
    theirs = sum(owner(slot_of(truck), names) == "hub-b" for truck in trucks)
    assert await run(commands.plan, environ, without=[], plus=[]) == 0
    assert f"{theirs} of 12 devices would move" in capsys.readouterr().out
    assert await run(commands.command, environ, "pause", ["hub-a"]) == 0
    assert await run(commands.move, environ, [], to="hub-b", wait=True) == 0
    assert f"{theirs} devices are to move" in capsys.readouterr().out
    # They speak no fleetwire, so that they were ended, and the hub is rid of them.
    await until(lambda: len(running[0].running.hub.registry) == 12 - theirs)
    for what in ("resume", "abort"):
        assert await run(commands.command, environ, what, []) == 0


async def test_what_cannot_be_done_is_said_with_what_to_do(
    environ: dict[str, str], pool: Pool, start_hub: StartHub
) -> None:
    with pytest.raises(CommandFailed, match="no hub lives"):
        await run(commands.ls, environ, as_json=False)
    await start_hub("hub-a", FLEETWIRE_OPS_TOKEN=TOKEN)
    with pytest.raises(CommandFailed, match="no hub is named hub-z; there are hub-a"):
        await run(commands.command, environ, "pause", ["hub-z"])
    with pytest.raises(CommandFailed, match="set FLEETWIRE_OPS_TOKEN"):
        await run(commands.ls, environ | {"FLEETWIRE_OPS_TOKEN": ""}, as_json=False)
    nowhere = f"http://127.0.0.1:{free_port()}"
    await hubs.heartbeat(pool, HubRow("hub-b", "run", "ws://b", 0, 9, draining=False, ops_url=nowhere))
    await hubs.heartbeat(pool, HubRow("hub-c", "run", "ws://c", 0, 9, draining=False))
    assert await run(commands.ls, environ | {"FLEETWIRE_OPS_TOKEN": TOKEN}, as_json=True) == 1
    with pytest.raises(HubAway, match="FLEETWIRE_HUB_OPS_URL"):
        await run(commands.command, environ, "pause", ["hub-b"])
    with pytest.raises(CommandFailed, match="older version"):
        await run(commands.command, environ, "pause", ["hub-c"])


@asynccontextmanager
async def kept_running(start_hub: StartHub, names: list[str]) -> AsyncIterator[dict[str, RunningHub]]:
    """As a supervisor does: what has ended is started again."""
    running = {name: await start_hub(name, **ON) for name in names}

    async def keep(name: str) -> None:
        while True:
            await asyncio.wait([running[name].task])
            running[name] = await start_hub(name, **ON)

    keepers = [asyncio.create_task(keep(name)) for name in names]
    try:
        yield running
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


async def test_a_roll_restarts_every_hub_and_waits_for_each(environ: dict[str, str], start_hub: StartHub) -> None:
    async with kept_running(start_hub, ["hub-a", "hub-b"]) as running, open_hub_fleet(_settings(environ)) as fleet:
        await settled(*running.values())
        before = {name: hub.running.neighbours.instance for name, hub in running.items()}
        stages: list[tuple[str, str]] = []
        rolled = await roll(fleet, [], timeout_s=20, show=lambda hub, stage, done, of: stages.append((hub, stage)))
        assert [one.name for one in rolled] == ["hub-a", "hub-b"]
        after = {name: hub.running.neighbours.instance for name, hub in running.items()}
        assert all(before[name] != after[name] for name in before)
        # The first was done before the second was touched.
        assert stages.index(("hub-a", "done")) < min(n for n, (hub, _) in enumerate(stages) if hub == "hub-b")
        views = [hub.running.mover.rebalance.base.runs for hub in running.values()]
        assert views == [after, after]


async def test_a_roll_stops_at_a_hub_that_nobody_starts_again(environ: dict[str, str], start_hub: StartHub) -> None:
    running = [await start_hub(name, **ON) for name in ("hub-a", "hub-b")]
    await settled(*running)
    async with open_hub_fleet(_settings(environ)) as fleet:
        with pytest.raises(CommandFailed, match="hub-a has left and was not started again"):
            await roll(fleet, [], timeout_s=1.5, show=lambda *_: None)
        assert [row.name for row in await fleet.rows()] == ["hub-b"]


async def test_a_roll_begins_with_no_hub_that_is_not_well(environ: dict[str, str], start_hub: StartHub) -> None:
    running = [await start_hub(name, **ON) for name in ("hub-a", "hub-b")]
    await settled(*running)
    running[1].running.mover.pause()
    async with open_hub_fleet(_settings(environ)) as fleet:
        with pytest.raises(CommandFailed, match="moves of hub-b are paused"):
            await roll(fleet, ["hub-a"], timeout_s=1.5, show=lambda *_: None)
    assert not any(hub.task.done() for hub in running)


def _settings(environ: dict[str, str]) -> CommandSettings:
    return load(CommandSettings, environ)


async def test_a_hub_that_starts_says_so_instead_of_failing(environ: dict[str, str], pool: Pool) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503, json={"detail": "the hub is starting"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        fleet = HubFleet(pool, client)
        with pytest.raises(HubAway, match="the hub is starting"):
            await fleet.state(HubRow("hub-a", "run", "ws://a", 0, 9, draining=False, ops_url="http://a"))
