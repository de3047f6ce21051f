from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.breaker import BreakerRules
from shared.cloud.placement import Placement

SHARES = (("sharepoint", 70.0), ("drive", 20.0), ("local", 10.0))


def drawn(
    placement: Placement, *, count: int = 10_000, now: float = 0.0, without: tuple[str, ...] = ()
) -> dict[str, float]:
    """Shares in percent, by rolls that lie evenly."""
    found: dict[str, int] = {}
    for n in range(count):
        store = placement.choose(roll=(n + 0.5) / count, now=now, without=without)
        if store is not None:
            found[store] = found.get(store, 0) + 1
    return {store: 100 * n / count for store, n in found.items()}


def down(placement: Placement, store: str, now: float = 0.0) -> None:
    for _ in range(3):
        placement.failed(store, now=now)


def test_seventy_of_a_hundred_go_to_the_first_twenty_to_the_second_and_ten_to_the_third() -> None:
    assert drawn(Placement(SHARES)) == {"sharepoint": 70, "drive": 20, "local": 10}


def test_real_rolls_come_near_the_weights() -> None:
    rand, placement = Random(11), Placement(SHARES)
    found = [placement.choose(roll=rand.random(), now=0) for _ in range(20_000)]
    assert abs(found.count("sharepoint") / 20_000 - 0.7) < 0.01
    assert abs(found.count("drive") / 20_000 - 0.2) < 0.01


def test_what_a_store_that_is_down_would_get_is_shared_out_by_the_others_weights() -> None:
    placement = Placement(SHARES)
    down(placement, "sharepoint")
    assert drawn(placement) == pytest.approx({"drive": 200 / 3, "local": 100 / 3}, abs=0.02)
    down(placement, "drive")
    assert drawn(placement) == {"local": 100}
    down(placement, "local")
    assert placement.choose(roll=0.5, now=0) is None


def test_a_store_that_was_down_is_tried_by_one_and_has_its_share_again_when_it_is_well() -> None:
    placement = Placement(SHARES, rules=BreakerRules(open_s=10))
    down(placement, "sharepoint")
    assert drawn(placement, now=10, count=100)["sharepoint"] == 1, "one tries"
    for _ in range(2):
        placement.succeeded("sharepoint", seconds=0.1, now=11)
    assert drawn(placement, now=11)["sharepoint"] == 70


def test_the_next_one_is_never_one_that_was_tried() -> None:
    placement = Placement(SHARES)
    assert drawn(placement, without=("sharepoint",)).keys() == {"drive", "local"}
    assert placement.choose(roll=0, now=0, without=("sharepoint", "drive", "local")) is None


def test_a_store_of_no_weight_is_for_when_nothing_else_is_left() -> None:
    placement = Placement((("local", 0.0), ("drive", 1.0)))
    assert drawn(placement) == {"drive": 100}
    down(placement, "drive")
    assert drawn(placement) == {"local": 100}


@pytest.mark.parametrize("weights", [(), (("a", 0.0),), (("a", 2.0), ("b", -1.0))])
def test_weights_that_place_nothing_are_refused(weights: tuple[tuple[str, float], ...]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Placement(weights)


def test_what_is_told_of_a_store_that_has_no_weight_here_is_heard_without_harm() -> None:
    placement = Placement(SHARES)
    placement.failed("s3", now=0)
    placement.succeeded("s3", seconds=1, now=0)
    assert placement.states(0) == {"sharepoint": "closed", "drive": "closed", "local": "closed"}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 1e6), min_size=1),
    st.sets(st.sampled_from("abcdef")),
    st.data(),
)
def test_every_store_that_is_well_has_its_share_whatever_the_weights(
    weights: dict[str, float], broken: set[str], data: st.DataObject
) -> None:
    placement = Placement(tuple(weights.items()))
    for store in broken:
        down(placement, store)
    well = {store: weight for store, weight in weights.items() if store not in broken}
    found = drawn(placement, count=2_000)
    assert found.keys() <= well.keys()
    total = sum(well.values())
    for store, weight in well.items():
        assert found.get(store, 0) == pytest.approx(100 * weight / total, abs=0.2)
    if well:
        roll = data.draw(st.floats(0, 1, exclude_max=True))
        assert placement.choose(roll=roll, now=0) in well
