"""The judge of load runs: it must see every fault, or a run proves nothing."""

from hypothesis import given
from hypothesis import strategies as st

from loadtests.driver.history import History


def history(recorded: list[str], shown: list[str]) -> History:
    made = History()
    made.recorded("a", recorded)
    for event_id in shown:
        made.shown("a", event_id)
    return made


def test_a_run_that_shows_everything_once_and_in_order_passes() -> None:
    verdict = history(["1", "2", "3"], ["1", "2", "3"]).judge()
    assert verdict.passed
    assert str(verdict) == "3 of 3 events shown: 0 lost, 0 repeated, 0 out of order"


def test_each_fault_is_seen_and_named() -> None:
    verdict = history(["1", "2", "3", "4"], ["1", "3", "2", "2", "x"]).judge()
    assert (verdict.lost, verdict.repeated, verdict.out_of_order, verdict.unexpected) == (1, 1, 1, 1)
    assert verdict.examples["lost"] == ["a/4"]
    assert not verdict.passed


def test_devices_are_judged_apart() -> None:
    made = History()
    made.recorded("a", ["1"])
    made.recorded("b", ["1"])
    made.shown("a", "1")
    made.shown("a", "1")
    verdict = made.judge()
    assert (verdict.lost, verdict.repeated) == (1, 1)


@given(st.lists(st.integers(0, 9).map(str), unique=True), st.lists(st.integers(0, 9).map(str)))
def test_only_an_exact_showing_passes(recorded: list[str], shown: list[str]) -> None:
    assert history(recorded, shown).judge().passed == (recorded == shown)
