"""Hubs as processes come and go by what they say they hold."""

import asyncio
import errno
import io
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from infra.onebox.autoscale import Autoscale
from infra.onebox.errors import PortTaken
from infra.onebox.hub_set import HubPolicy, HubSet, connections_in
from infra.onebox.log_lines import LogLines
from infra.onebox.plan import Process
from infra.onebox.ports import PortWish, settle
from infra.onebox.scale_settings import ScaleSettings
from infra.onebox.supervisor import Supervisor
from infra.scaling.policy import Autoscaler, Decision, Rules, Step
from shared.settings import SettingsError, load
from tests.infra.onebox.conditions import until

pytestmark = pytest.mark.processes

RULES = Rules(target=10, hubs_min=1, hubs_max=3, quiet_s=0.0, up=Step(3, 1.0), down=Step(3, 1.0))


class Site:
    """One hub to begin with, which says 0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = LogLines(io.StringIO(), colour=False)
        self.supervisor = Supervisor(self.lines, Random(1))
        self.said: list[str] = []
        self.changes: list[list[str]] = []
        self.port_taken = False
        self.disk_full = False
        self.package = "tests.infra.onebox.hub_double"
        first = self.make(1)
        self.hubs = HubSet(
            self.supervisor,
            [first],
            {**os.environ, "FLEETWIRE_TEST_FOLDER": str(folder)},
            make=self.make,
            tier=1,
            on_change=self.on_change,
            say=self.said.append,
        )
        self.first = first.spec({**os.environ, "FLEETWIRE_TEST_FOLDER": str(folder)})
        policy = HubPolicy(self.hubs, Autoscaler(RULES))
        self.autoscale = Autoscale(self.hubs, policy, period_s=30.0, say=self.said.append, rand=Random(1))

    def make(self, number: int) -> Process:
        if self.port_taken:
            raise PortTaken([f"port 810{number} for hub {number} is taken"])
        name = f"hub-{number}"
        self.hold(name, 0)
        [port] = settle([PortWish("operations", 0, "")])
        return Process(name, self.package, port, {"FLEETWIRE_HUB_NAME": name})

    def on_change(self, hubs: Sequence[Process]) -> None:
        if self.disk_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.changes.append([hub.name for hub in hubs])

    def hold(self, name: str, connections: int) -> None:
        (self.folder / name).write_text(str(connections))

    async def look_until(self, holds: Callable[[Decision], bool]) -> Decision:
        """Look again and again: on a busy machine a hub may be too late with its answer, which changes nothing."""
        async with asyncio.timeout(30):
            while not holds(decision := await self.autoscale.look()):
                pass
        return decision

    async def grow_to_three(self) -> None:
        self.hold("hub-1", 25)
        await self.look_until(lambda decision: len(self.names()) == 3)

    def names(self) -> list[str]:
        return [child.spec.name for child in self.supervisor.children]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    await site.supervisor.start(site.first, tier=1)
    yield site
    await site.hubs.close()
    await site.supervisor.stop(5.0)
    site.lines.close()


async def test_hubs_are_added_and_the_highest_goes_first(site: Site) -> None:
    await site.grow_to_three()
    assert site.names() == ["hub-1", "hub-2", "hub-3"]
    assert site.changes == [["hub-1", "hub-2"], ["hub-1", "hub-2", "hub-3"]]
    assert "adding a hub: 25 devices on 1 hub, 25 each (target 10)" in site.said
    assert "hub-3 is ready and takes its devices" in site.said

    site.hold("hub-1", 12)
    decision = await site.look_until(lambda decision: decision.change < 0)
    assert (decision.current, decision.hubs) == (3, 2)
    assert "removing hub-3: 12 devices on 3 hubs, 4 each (target 10)" in site.said
    await until(lambda: site.names() == ["hub-1", "hub-2"] and not site.hubs.leaving)
    assert site.changes[-1] == ["hub-1", "hub-2"]
    assert any(line.startswith("hub-3 has gone after") for line in site.said)
    decision = await site.look_until(lambda decision: decision.total == 12)
    assert decision.change == 0


async def test_a_hub_that_ends_unasked_with_status_0_is_started_again_and_keeps_the_others(site: Site) -> None:
    await site.grow_to_three()
    site.hold("hub-1", 0)
    third = site.supervisor.children[2]
    assert third.pid is not None
    os.kill(third.pid, signal.SIGTERM)  # as a rolling restart does
    await until(lambda: third.state == "waiting" or third.restarts)
    decision = await site.autoscale.look()
    if "no answer from" in decision.why:
        assert decision.change == 0
    await until(lambda: third.restarts == 1 and third.state == "ready")


async def test_a_hub_that_stands_still_keeps_every_hub(site: Site) -> None:
    await site.grow_to_three()
    site.hold("hub-1", 0)
    second = site.supervisor.children[1]
    assert second.pid is not None
    os.kill(second.pid, signal.SIGSTOP)
    decision = await site.autoscale.look()
    assert (decision.hubs, decision.total) == (3, 0)
    assert re.search("no answer from .*hub-2", decision.why)
    os.kill(second.pid, signal.SIGCONT)


async def test_a_hub_that_cannot_be_added_is_said_once_and_tried_later(site: Site) -> None:
    site.hold("hub-1", 25)
    site.port_taken = True
    await site.look_until(lambda decision: any(line.startswith("no hub was added") for line in site.said))
    await site.autoscale.look()
    failures = [line for line in site.said if line.startswith("no hub was added")]
    assert len(failures) == 1
    assert "port 8102 for hub 2 is taken" in failures[0]
    assert site.names() == ["hub-1"]


async def test_a_hub_that_does_not_start_is_given_up_and_forgotten(site: Site) -> None:
    site.hold("hub-1", 25)
    site.package = "tests.infra.onebox.no_such_module"
    await site.look_until(lambda decision: decision.change > 0)
    assert any("hub-2 does not start: it ended with status 1" in line for line in site.said)
    assert site.names() == ["hub-1"]
    assert [reading.hub for reading in await site.hubs.read()] == ["hub-1"]


async def test_the_last_hub_stays(site: Site) -> None:
    assert site.hubs.begin_removal(lambda name, seconds: None) is None


async def test_a_stop_during_a_removal_ends_the_hub_with_the_others(site: Site) -> None:
    await site.grow_to_three()
    third = site.supervisor.children[2]
    pid = third.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # SIGTERM comes with SIGCONT, so it ends all the same
    assert site.hubs.begin_removal(lambda name, seconds: None) == "hub-3"
    await site.hubs.close()
    await site.supervisor.stop(5.0)
    assert {child.state for child in site.supervisor.children} == {"stopped"}


async def test_a_hub_that_could_not_be_ended_stays_and_is_ended_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.grow_to_three()

    async def end(name: str, deadline_s: float) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    gone: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(site.supervisor, "end", end)
        assert site.hubs.begin_removal(lambda name, seconds: gone.append(name)) == "hub-3"
        await until(lambda: not site.hubs.leaving)
    assert any(line.startswith("hub-3 could not be ended and stays: BlockingIOError") for line in site.said)
    assert [reading.leaving for reading in await site.hubs.read()] == [False, False, False]
    assert site.hubs.begin_removal(lambda name, seconds: gone.append(name)) == "hub-3"
    await until(lambda: gone == ["hub-3"] and not site.hubs.leaving)
    assert site.names() == ["hub-1", "hub-2"]


async def test_a_list_of_hubs_that_cannot_be_written_is_said_once_and_written_later(site: Site) -> None:
    site.disk_full = True
    await site.grow_to_three()
    assert sum("cannot be kept up to date" in line for line in site.said) == 1
    site.disk_full = False
    await site.autoscale.look()
    assert site.changes == [["hub-1", "hub-2", "hub-3"]]


@pytest.mark.parametrize(
    ("page", "number"),
    [
        ("fleetwire_hub_connections 12.0\n", 12),
        ("# HELP fleetwire_hub_connections x\nfleetwire_hub_connections_other 3\n", None),
        ("fleetwire_hub_connections NaN\n", None),
        ("fleetwire_hub_connections +Inf\n", None),
        ("", None),
    ],
)
def test_a_page_that_does_not_say_is_no_zero(page: str, number: int | None) -> None:
    assert connections_in(page) == number


def test_the_settings_make_the_rules_and_contradictions_are_named() -> None:
    rules = load(ScaleSettings, {"FLEETWIRE_SCALE_PERIOD_S": "15", "FLEETWIRE_SCALE_QUIET_S": "600"}).rules()
    assert (rules.target, rules.up, rules.down, rules.quiet_s) == (360, Rules().up, Rules().down, Rules().quiet_s)
    with pytest.raises(SettingsError, match="FLEETWIRE_SCALE_MIN=9 is wrong: it is above FLEETWIRE_SCALE_MAX=8"):
        load(ScaleSettings, {"FLEETWIRE_SCALE_MIN": "9"})
