"""A driven device on scripted hubs: it moves as the SDK does, and hides nothing that a hub does wrong."""

import asyncio
import threading
from collections.abc import Sequence
from random import Random

import pytest

from loadtests.driver.assignment import Assignments
from loadtests.driver.fleet import Fleet, FleetOptions
from loadtests.ports import free_port
from tests.loadtests.conftest import Driven
from tests.loadtests.hub_double import Connection, HubDouble

QUICK = FleetOptions(ack_every=1, jitter_s=0.02)
DEADLINE_S = 15


def fleet_at(url: str, **options: object) -> Fleet:
    fleet = Fleet(["truck-7"], lambda _: (url, "token"), QUICK, Random(1), **options)  # type: ignore[arg-type]
    fleet.history.recorded("truck-7", [f"e{seq}" for seq in range(1, 6)])
    fleet.start_all()
    return fleet


def moved(connection: Connection, url: str) -> None:
    connection.send(type="moved", url=url, after_ms=20, reason="rebalance")


async def test_it_opens_the_second_socket_first_and_shows_each_event_once() -> None:
    arrived, told = threading.Event(), threading.Event()

    def new(connection: Connection) -> None:
        arrived.set()
        told.wait(DEADLINE_S)
        connection.welcome(2, acked=2)
        for seq in (3, 4, 5):
            connection.event(seq)
        connection.stay()

    with HubDouble(new) as second:

        def old(connection: Connection) -> None:
            connection.welcome()
            connection.event(1)
            connection.event(2)
            moved(connection, f"{second.url}?hub=hub-2")
            arrived.wait(DEADLINE_S)
            connection.event(3)  # the old one goes on
            told.set()
            connection.stay()

        with HubDouble(old) as first:
            fleet = fleet_at(first.url)
            assert await fleet.until(lambda: fleet.devices[0].seq == 5, DEADLINE_S)
            assert await fleet.until(lambda: second.connections[0].acks[-1:] == [5], DEADLINE_S)
            assert (fleet.totals.moves_told, fleet.totals.moves_done, fleet.totals.welcomed) == (1, 1, 1)
            assert fleet.totals.connected == 2
            await fleet.stop()
    assert second.connections[0].query["hub"] == "hub-2"
    assert fleet.history.judge().passed, fleet.history.judge()
    assert fleet.totals.gaps == 0


async def test_a_hub_that_repeats_after_a_move_is_caught() -> None:
    def new(connection: Connection) -> None:
        connection.welcome(1, acked=2)
        connection.event(2)
        connection.stay()

    with HubDouble(new) as second:

        def old(connection: Connection) -> None:
            connection.welcome()
            connection.event(1)
            connection.event(2)
            moved(connection, second.url)
            connection.stay()

        with HubDouble(old) as first:
            fleet = fleet_at(first.url)
            assert await fleet.until(lambda: fleet.history.judge().repeated == 1, DEADLINE_S)
            await fleet.stop()


async def test_the_assignments_alternatives_are_tried_when_the_first_refuses() -> None:
    def script(connection: Connection) -> None:
        connection.welcome()
        connection.stay()

    asked = []

    with HubDouble(script, refusals=[503] * 5) as full, HubDouble(script) as other:

        async def assign(device_id: str) -> Sequence[str]:
            asked.append(device_id)
            await asyncio.sleep(0)
            return [full.url, other.url]

        fleet = fleet_at("ws://unused", assign=assign)
        assert await fleet.all_welcomed(DEADLINE_S)
        await fleet.stop()
    assert len(other.connections) == 1
    assert asked == ["truck-7"]
    assert fleet.totals.refusals[503] == 1


async def test_devices_are_assigned_by_the_api_over_connections_that_are_kept(driven: Driven) -> None:
    names = [f"assigned-{number}" for number in range(40)]
    tokens = {name: driven.machine.token(name, "device") for name in names}
    assignments = Assignments(driven.machine.api, tokens.__getitem__)
    found = await asyncio.gather(*(assignments.ask(name) for name in names))
    assert {url for urls in found for url in urls} == {f"ws://127.0.0.1:{driven.proxy_port}/v1/socket?hub=hub-1"}
    again = await assignments.ask(names[0])
    assert again == found[0]
    tokens["other"] = tokens[names[0]]
    with pytest.raises(OSError, match="HTTP 403"):
        await assignments.ask("other")
    await assignments.close()
    with pytest.raises(OSError, match="Connect call failed"):
        await Assignments(f"http://127.0.0.1:{free_port()}", lambda _: "token").ask("truck-7")
