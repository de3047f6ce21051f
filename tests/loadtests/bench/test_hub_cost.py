"""The cost benchmark: what it saves, and one turn of it against the relay."""

import shutil

import pytest
import uvloop

from loadtests.bench import __main__ as bench
from loadtests.bench.devices import running_devices
from loadtests.bench.hub_cost import Idle, Result
from loadtests.bench.peers.launch import Environments, start
from loadtests.bench.side import Point, Side, Turns
from loadtests.stand import running_stand


def result(server: str, us_per_event: float) -> Result:
    latency = {"p50_ms": 1.0, "p99_ms": 2.0}
    return Result(server, 500, "a load", us_per_event, (us_per_event,), 100, 25, 0, latency, 5.0)


def test_the_ratio_is_to_the_relay_of_the_same_point() -> None:
    table = bench.cost_table([(result("relay", 10.0), result("hub", 15.0), result("python-relay", 12.5))])
    rows = zip(*(column.cells for column in table.columns), strict=True)
    assert [row[3:7] for row in rows] == [("hub", "10.0", "15.0", "1.50"), ("python-relay", "10.0", "12.5", "1.25")]


def test_everything_that_was_measured_is_saved() -> None:
    saved = bench.as_json([(result("relay", 10.0), result("hub", 15.0))], [Idle("hub", 500, 11.0, 9.0, 3000)], [])
    assert [one["server"] for one in saved["results"]] == ["relay", "hub"]
    assert saved["idle"][0]["resident_kb_per_device"] == 11.0


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("cc") is None, reason="the relay is built with a C compiler")
def test_a_turn_counts_what_was_delivered_in_the_middle_of_it() -> None:
    names = ["one", "two"]
    with running_stand(durable=False) as stand:
        uvloop.run(stand.make_devices(names))
        with (
            start("relay", stand, Environments(stand.folder), 2) as server,
            running_devices(stand, server.port, names) as devices,
        ):
            devices.welcomed()
            side = Side(stand, server, devices, names)
            found = Turns()
            side.take(Point("a load", "unicast", 200), 0.5, found)
    assert found.lost == 0
    assert found.delivered >= 200
    assert found.cost > 0
