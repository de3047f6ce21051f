"""The policy: the cluster's arithmetic, bounds, quiet time, steps, and what is not known."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.scaling.policy import Autoscaler, Reading, Rules, Step, desired_hubs

FAST = Rules(hubs_min=1, hubs_max=50, quiet_s=0.0, up=Step(50, 1.0), down=Step(50, 1.0))


def spread(total: int, hubs: int) -> list[Reading]:
    """Readings of so many devices, as evenly as they go."""
    return [Reading(f"hub-{n + 1}", total // hubs + (n < total % hubs)) for n in range(hubs)]


def followed(
    scaler: Autoscaler, load: Callable[[float], int], *, hubs: int, seconds: float, every_s: float = 15.0
) -> list[int]:
    """How many hubs there are after each look, when each decision is carried out at once."""
    curve, now = [], 0.0
    while now < seconds:
        decision = scaler.decide(spread(load(now), hubs), now)
        scaler.changed(decision.change, now)
        hubs = decision.hubs
        curve.append(hubs)
        now += every_s
    return curve


@pytest.mark.parametrize(
    ("total", "current", "wished"),
    [
        (0, 1, 0),
        (360, 1, 1),
        (396, 1, 1),  # within the tenth
        (397, 1, 2),
        (792, 2, 2),
        (793, 2, 3),
        (972, 3, 3),  # 324 each is still within the tenth
        (971, 3, 3),  # below it, but two would be above the target
        (720, 3, 2),
        (721, 3, 3),
        (361, 2, 2),
        (360, 2, 1),
        (10_000, 0, 28),
    ],
)
def test_the_answer_is_the_clusters(total: int, current: int, wished: int) -> None:
    assert desired_hubs(total, current, target=360, tolerance=0.1) == wished


@given(st.integers(0, 50_000), st.integers(1, 50), st.integers(1, 2_000), st.sampled_from([0.0, 0.05, 0.1, 0.2]))
def test_a_constant_load_has_an_answer_that_asks_for_no_other(
    total: int, current: int, target: int, tolerance: float
) -> None:
    answer = desired_hubs(total, current, target=target, tolerance=tolerance)
    if answer:
        assert desired_hubs(total, answer, target=target, tolerance=tolerance) == answer


@given(st.integers(0, 20_000), st.integers(0, 20_000), st.integers(1, 50))
def test_more_devices_never_mean_fewer_hubs(one: int, other: int, current: int) -> None:
    few, many = sorted((one, other))
    rules = Rules(hubs_min=1, hubs_max=60)
    answers = [desired_hubs(n, current, target=rules.target, tolerance=rules.tolerance) for n in (few, many)]
    assert answers == sorted(answers)
    decided = [Autoscaler(FAST).decide(spread(n, current), 0.0).hubs for n in (few, many)]
    assert decided == sorted(decided)


def test_what_there_is_at_the_start_stays_for_the_quiet_time() -> None:
    scaler = Autoscaler(Rules(hubs_min=1, quiet_s=60.0))
    assert [scaler.decide(spread(0, 3), now).hubs for now in (0.0, 30.0, 59.0)] == [3, 3, 3]
    assert scaler.decide(spread(0, 3), 60.0).hubs == 2


@given(st.integers(0, 30_000), st.integers(1, 20), st.integers(1, 5), st.integers(0, 20))
def test_a_constant_load_changes_the_number_in_one_direction_and_then_no_more(
    total: int, hubs: int, least: int, more: int
) -> None:
    rules = Rules(hubs_min=least, hubs_max=least + more, quiet_s=60.0, up=Step(2, 60.0), down=Step(1, 30.0))
    curve = [hubs, *followed(Autoscaler(rules), lambda _: total, hubs=hubs, seconds=3000.0)]
    assert curve == sorted(curve) or curve == sorted(curve, reverse=True)
    assert curve[-1] == curve[-20]
    assert rules.hubs_min <= curve[-1] <= rules.hubs_max


@given(st.lists(st.one_of(st.none(), st.integers(0, 2000)), min_size=1, max_size=12))
def test_the_answer_is_within_the_bounds_whatever_is_read(connections: list[int | None]) -> None:
    rules = Rules(hubs_min=2, hubs_max=8, quiet_s=0.0, up=Step(20, 1.0), down=Step(20, 1.0))
    readings = [Reading(f"hub-{n}", one) for n, one in enumerate(connections)]
    assert 2 <= Autoscaler(rules).decide(readings, 0.0).hubs <= 8


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60), st.integers(1, 10))
def test_no_change_goes_further_than_a_step_from_where_the_period_began(loads: list[int], hubs: int) -> None:
    rules = Rules(hubs_min=1, hubs_max=40, quiet_s=0.0, up=Step(2, 60.0), down=Step(1, 120.0))
    seconds = 15.0 * len(loads)
    curve = [hubs, *followed(Autoscaler(rules), lambda t: loads[int(t // 15)], hubs=hubs, seconds=seconds)]
    for n in range(1, len(curve)):
        assert curve[n] <= max(curve[n - 1], curve[max(0, n - 4)] + 2)
        assert curve[n] >= min(curve[n - 1], curve[max(0, n - 8)] - 1)


@given(st.lists(st.integers(0, 600), min_size=1, max_size=12), st.data())
def test_while_a_hub_is_missing_nothing_is_removed_and_it_adds_nothing(
    connections: list[int], data: st.DataObject
) -> None:
    lost = data.draw(st.integers(0, len(connections) - 1))
    whole = [Reading(f"hub-{n}", one) for n, one in enumerate(connections)]
    partly = [Reading(one.hub, None if n == lost else one.connections) for n, one in enumerate(whole)]
    decision = Autoscaler(FAST).decide(partly, 0.0)
    assert decision.current <= decision.hubs <= max(decision.current, Autoscaler(FAST).decide(whole, 0.0).hubs)
    assert f"no answer from hub-{lost}" in decision.why


def test_a_metric_that_is_lost_for_a_while_starts_the_quiet_time_anew() -> None:
    rules = Rules(hubs_min=1, quiet_s=60.0)
    scaler = Autoscaler(rules)
    assert scaler.decide(spread(900, 3), 0.0).hubs == 3
    assert scaler.decide(spread(100, 3), 59.0).hubs == 3
    assert scaler.decide([Reading("hub-1", 50), Reading("hub-2", 50), Reading("hub-3", None)], 60.0).hubs == 3
    assert scaler.decide(spread(100, 3), 119.0).hubs == 3
    assert scaler.decide(spread(100, 3), 120.0).hubs == 2  # one at a time


def test_a_hub_that_leaves_is_none_and_its_devices_still_need_one() -> None:
    readings = [*spread(700, 2), Reading("hub-3", 300, leaving=True)]
    decision = Autoscaler(FAST).decide(readings, 0.0)
    assert (decision.current, decision.total, decision.hubs) == (2, 1000, 3)


def test_a_hub_that_leaves_and_does_not_answer_is_missing_like_any_other() -> None:
    assert Autoscaler(FAST).decide([*spread(10, 2), Reading("hub-3", None, leaving=True)], 0.0).hubs == 2


def test_a_removal_waits_for_the_quiet_time_and_an_addition_does_not() -> None:
    scaler = Autoscaler(Rules(hubs_min=1, quiet_s=600.0))
    for now in range(0, 600, 15):
        assert scaler.decide(spread(400, 1), float(now)).hubs == 2
    assert scaler.decide(spread(100, 2), 600.0).hubs == 2
    assert scaler.decide(spread(100, 2), 1184.0).hubs == 2
    assert scaler.decide(spread(100, 2), 1185.0).hubs == 1


@pytest.mark.parametrize("fewest", [1, 2])
def test_the_bounds_are_said(fewest: int) -> None:
    scaler = Autoscaler(Rules(hubs_min=fewest, hubs_max=3, quiet_s=0.0, up=Step(9, 1.0), down=Step(9, 1.0)))
    assert scaler.decide(spread(3000, 2), 0.0).why == (
        "3000 devices on 2 hubs, 1500 each (target 360); 9 hubs would do, 3 is the most"
    )
    said = scaler.decide(spread(0, 3), 10.0).why
    assert said == f"0 devices on 3 hubs, 0 each (target 360); 0 hubs would do, {fewest} is the fewest"


def triangle(low: int, high: int, rise_s: float) -> Callable[[float], int]:
    return lambda t: round(low + (high - low) * max(0.0, 1.0 - abs(t / rise_s - 1.0)))


def steps(curve: Sequence[int]) -> list[int]:
    return [hubs for n, hubs in enumerate(curve) if n == 0 or hubs != curve[n - 1]]


def test_hubs_follow_a_thousand_devices_up_and_down() -> None:
    scaler = Autoscaler(Rules(hubs_min=1))
    curve = followed(scaler, triangle(100, 1000, 1800.0), hubs=1, seconds=6000.0)
    assert steps(curve) == [1, 2, 3, 2, 1]
    rises, falls = curve.index(2) * 15, (len(curve) - curve[::-1].index(2)) * 15
    assert 585 <= rises <= 615  # when the first hub is above 396
    assert falls - 3075 >= 600  # two are kept for the quiet time after the last look at more than 360


def test_a_noisy_load_at_the_edge_does_not_make_hubs_come_and_go() -> None:
    scaler = Autoscaler(Rules(hubs_min=1))
    curve = followed(scaler, lambda t: 360 + round(60 * math.sin(t / 50)), hubs=1, seconds=7200.0)
    assert steps(curve) == [1, 2]


def test_rules_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="contradict"):
        Rules(hubs_min=3, hubs_max=2)
