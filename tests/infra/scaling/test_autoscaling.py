"""The manifests' numbers in the cluster's arithmetic, on curves that were recorded of real hubs."""

import csv
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.scaling.policy import Autoscaler, Reading, Rules
from shared.hash_slots import owner, slot_of
from tests.infra.k8s.rendering import of_kind, rendered
from tests.infra.scaling.horizontal import SYNC_S, Horizontal

CURVES = sorted((Path(__file__).parent / "curves").glob("*.csv"))
TOO_MANY = 440
CAP = 500
SCRAPE_S = 5.0
START_S = 20.0  # from the decision to a hub that takes devices
MOVES_PER_S = 50.0


def scaled(name: str) -> dict[str, Any]:
    return of_kind(rendered("overlays/production"), "ScaledObject")[name]


def rows(file: Path) -> list[tuple[float, list[int | None]]]:
    with file.open() as lines:
        header, *found = csv.reader(lines)
        assert header[0] == "seconds"
        return [(float(at), [int(one) if one else None for one in each]) for at, *each in found]


def totals(file: Path) -> Callable[[float], float]:
    """Devices of the whole fleet at a time, as recorded. One whose hub did not answer was still somewhere."""
    known: list[tuple[float, float]] = []
    last: list[int] = []
    for at, each in rows(file):
        last = [now if now is not None else before for now, before in itertools.zip_longest(each, last, fillvalue=0)]
        known.append((at, float(sum(last))))

    def total(now: float) -> float:
        return next((count for at, count in reversed(known) if at <= now), known[0][1])

    return total


class Fleet:
    """Hubs of a StatefulSet and devices with names: new ones come to their owner, others move there at the set rate."""

    def __init__(self, hubs: int) -> None:
        self.wanted = hubs
        self.ready = [f"fleetwire-hub-{n}" for n in range(hubs)]
        self.starting: list[tuple[float, str]] = []
        self.at: dict[str, str] = {}
        self._names = (f"truck-{n}" for n in itertools.count())
        self._moved = 0.0

    def resize(self, now: float, wanted: int) -> None:
        """What the autoscaler asked for. A hub that goes takes its devices to others first."""
        for n in range(self.wanted, wanted):
            self.starting.append((now + START_S, f"fleetwire-hub-{n}"))
        self.ready = [hub for hub in self.ready if int(hub.rpartition("-")[2]) < wanted]
        self.starting = [(at, hub) for at, hub in self.starting if int(hub.rpartition("-")[2]) < wanted]
        self.wanted = wanted
        self._rehome([device for device, hub in self.at.items() if hub not in self.ready])

    def pass_time(self, now: float, seconds: float, devices: int) -> None:
        """Hubs become ready, devices come and go, devices move."""
        self.ready += [hub for at, hub in self.starting if at <= now]
        self.starting = [(at, hub) for at, hub in self.starting if at > now]
        while len(self.at) > devices:
            del self.at[next(iter(self.at))]
        self._rehome([next(self._names) for _ in range(devices - len(self.at))])
        strangers = [device for device, hub in self.at.items() if hub != self._owner(device)]
        self._rehome(strangers[: int(MOVES_PER_S * seconds)])

    def _rehome(self, devices: Sequence[str]) -> None:
        for device in devices:
            self.at[device] = self._owner(device)

    def _owner(self, device: str) -> str:
        return _owner(slot_of(device), tuple(self.ready))

    @property
    def connections(self) -> dict[str, int]:
        count = Counter(self.at.values())
        return {hub: count[hub] for hub in self.ready}


_OWNERS: dict[tuple[int, tuple[str, ...]], str] = {}


def _owner(slot: int, hubs: tuple[str, ...]) -> str:
    if (slot, hubs) not in _OWNERS:
        _OWNERS[slot, hubs] = str(owner(slot, hubs))
    return _OWNERS[slot, hubs]


class Query:
    """The trigger's query, as Prometheus works it out. tests/infra/prometheus tries the text itself by promtool."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._counts: list[tuple[float, int]] = []

    def answer(self, now: float, connections: dict[str, int | None]) -> float | None:
        """Of one scrape; None is a hub that did not answer."""
        target, count = self._target, len(connections)
        self._counts.append((now, count))
        before = next((count for at, count in reversed(self._counts) if at <= now - 30.0), None)
        known = [count for count in connections.values() if count is not None]
        if known and sum(known) > 1.1 * target * count:
            return float(sum(known))
        if known and max(known) > 1.14 * target and before == count:
            return 1.11 * target * count
        if known and max(known) * count > 1.14 * target * (count - 1):
            return target * count
        return float(sum(known)) if known and len(known) == count else None


def run(
    load: Callable[[float], float],
    seconds: float,
    *,
    hubs: int = 2,
    lost: Callable[[float, str], bool] = lambda now, hub: False,
) -> Iterator[tuple[float, Fleet, int]]:
    """The fleet after each scrape, and how many hubs there should be, by the shipped ScaledObject."""
    horizontal = Horizontal.of(scaled("fleetwire-hub"))
    fleet, query = Fleet(hubs), Query(horizontal.targets[0])
    for now in range(0, int(seconds), int(SCRAPE_S)):
        fleet.pass_time(now, SCRAPE_S, round(load(now)))
        scraped = {hub: None if lost(now, hub) else count for hub, count in fleet.connections.items()}
        answer = query.answer(now, scraped)
        if now % SYNC_S == 0:
            fleet.resize(now, horizontal.step(now, fleet.wanted, [answer]))
        yield float(now), fleet, fleet.wanted


@pytest.mark.parametrize("file", CURVES, ids=lambda file: file.stem)
@pytest.mark.parametrize("times", [1, 3])
def test_a_hub_is_added_before_any_has_more_than_440_devices(file: Path, times: int) -> None:
    """On the recorded curve, and in a fleet so many times larger that takes as much longer to wake up."""
    load = totals(file)
    wanted = began = max(2, math.ceil(times * load(60) / 360))
    added = []
    for now, fleet, hubs in run(lambda now: times * load(now / times), times * rows(file)[-1][0], hubs=began):
        fullest = max(fleet.connections.values())
        if hubs > wanted:
            added.append(hubs)
            assert fullest <= TOO_MANY, f"the one that was added at {now:.0f} s came too late"
        wanted = hubs
        # While one starts the others fill up further; the cap is never reached.
        assert fullest < CAP, f"{fleet.connections} at {now:.0f} s"
    assert max(added) >= math.ceil(times * max(load(now) for now in range(500)) / (1.1 * 360))


@pytest.mark.parametrize("file", CURVES, ids=lambda file: file.stem)
def test_a_metric_that_is_lost_for_a_while_changes_nothing_and_adds_what_is_needed_afterwards(file: Path) -> None:
    load = totals(file)
    seconds = rows(file)[-1][0]
    top = max(load(now) for now in range(int(seconds)))
    hubs = math.ceil(top / 360)

    # All of them are lost for ten minutes at the top: nothing is taken away, however long it lasts.
    counts = {hubs for _, _, hubs in run(lambda now: top, 1800, hubs=hubs, lost=lambda now, hub: 300 <= now < 900)}
    assert counts == {hubs}
    # One of them is lost: the same, though the others tell less than all.
    counts = {
        wanted
        for _, _, wanted in run(
            lambda now: top, 1800, hubs=hubs, lost=lambda now, hub: now > 300 and hub.endswith("-0")
        )
    }
    assert counts == {hubs}


def test_a_lost_metric_read_as_zero_would_have_taken_hubs_away() -> None:
    horizontal = Horizontal.of(scaled("fleetwire-hub"))
    counts = [5]
    for now in range(0, 1500, 15):
        counts.append(horizontal.step(now, counts[-1], [0.0]))
    assert counts[-1] == 2
    assert [scaled(name)["spec"]["triggers"][0]["metadata"]["ignoreNullValues"] for name in SCALED] == ["false"] * len(
        SCALED
    )


SCALED = sorted(of_kind(rendered("overlays/production"), "ScaledObject"))


def test_no_number_is_set_when_a_metric_is_lost() -> None:
    # A fallback would set one where keeping what there is is wanted.
    assert not [name for name in SCALED if "fallback" in scaled(name)["spec"]]


def test_hubs_are_taken_away_slowly_and_never_below_two() -> None:
    curve = [hubs for _, _, hubs in run(lambda now: 1600 if now < 60 else 200, 2400, hubs=5)]
    assert curve[:120] == [5] * 120
    assert sorted(curve, reverse=True) == curve
    assert curve[-1] == 2
    for before, after in itertools.pairwise(curve[::24]):
        assert before - after <= 1


@given(st.lists(st.one_of(st.none(), st.integers(0, 6000)), min_size=1, max_size=50), st.integers(2, 20))
def test_the_policy_of_one_machine_is_the_clusters_arithmetic(loads: list[int | None], hubs: int) -> None:
    """infra/scaling/policy.py, with the numbers of the manifests, decides as the cluster does. A missing total is a hub
    that does not answer there, of which only the total of the others is known to be at least nothing."""
    policy, horizontal = Autoscaler(Rules()), Horizontal.of(scaled("fleetwire-hub"))
    now = 0.0
    for load in loads:
        readings = [
            Reading(f"hub-{n}", None if load is None else load // hubs + (n < load % hubs)) for n in range(hubs)
        ]
        decided = policy.decide(readings, now).hubs
        asked = horizontal.step(now, hubs, [None if load is None else float(load)])
        if load is not None:
            assert decided == asked
        policy.changed(asked - hubs, now)
        hubs = asked
        now += SYNC_S


def api(wanted: Callable[[float, int], float | None], seconds: float, *, instances: int = 3) -> list[tuple[float, int]]:
    """When how many instances of the API were asked for, given what Prometheus makes of the requests."""
    horizontal = Horizontal.of(scaled("fleetwire-api"))
    changes = [(0.0, instances)]
    for n in range(int(seconds / SYNC_S)):
        now = n * SYNC_S
        instances = horizontal.step(now, instances, [wanted(now, instances)])
        if instances != changes[-1][1]:
            changes.append((now, instances))
    return changes


def test_the_api_goes_from_3_to_5_after_2_minutes_of_many_requests_and_back_after_10_of_few() -> None:
    def wanted(now: float, instances: int) -> float:
        return 5 if 60 <= now < 1200 else 3 if now >= 1200 else instances

    # Windows are of 120 and 600 s, and it looks every 15 s.
    assert api(wanted, 3000) == [(0.0, 3), (165.0, 5), (1785.0, 3)]


def test_a_short_rush_and_a_short_lull_change_nothing_at_the_api() -> None:
    assert api(lambda now, n: 5 if 60 <= now < 165 else n, 1200) == [(0.0, 3)]
    assert api(lambda now, n: 3 if 60 <= now < 600 else n, 1500, instances=5) == [(0.0, 5)]
    # What is not known changes nothing either.
    assert api(lambda now, n: None, 1500, instances=5) == [(0.0, 5)]


def test_the_thresholds_of_the_rule_are_those_that_were_promised() -> None:
    text = (Path(__file__).parents[3] / "infra/prometheus/rules/scaling.yml").read_text()
    expression = re.search(r"fleet:fleetwire_api_instances:wanted\n.*?\n\n", text, re.DOTALL)
    assert expression is not None
    for number in ("> 1000", "< 300", "> 0.7", ", 5)", "vector(3)"):
        assert number in expression[0], number
    spec = scaled("fleetwire-api")["spec"]
    assert spec["triggers"][0]["metadata"]["query"] == "fleet:fleetwire_api_instances:wanted"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (3, 20)
