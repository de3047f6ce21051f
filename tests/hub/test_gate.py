"""When a hub takes devices."""

from random import Random

from hub.gate import Gate
from hub.store_watch import StoreWatch
from shared.bus.canary_judge import BusState
from shared.store.errors import StoreBusy, StoreUnavailable


def gate(state: BusState = BusState.OK) -> tuple[Gate, StoreWatch]:
    watch = StoreWatch(Random(1), deadline_s=10.0)
    made = Gate(watch, lambda: state)
    made.phase = "open"
    return made, watch


def test_a_hub_that_starts_or_drains_takes_nobody() -> None:
    made, _ = gate()
    made.phase = "starting"
    assert made.refusal is not None
    assert made.refusal.slug == "not-ready"
    made.phase = "draining"
    assert made.refusal is not None
    assert made.refusal.slug == "draining"
    assert made.reasons == ("draining",)


def test_a_bus_that_is_down_for_all_leaves_it_open_and_a_deaf_hub_closes() -> None:
    for state in (BusState.OK, BusState.DOUBT, BusState.DEGRADED):
        assert gate(state)[0].refusal is None
    deaf, _ = gate(BusState.DEAF)
    assert deaf.refusal is not None
    assert deaf.reasons == ("the bus does not reach this hub",)


def test_postgres_away_closes_it_and_postgres_busy_does_not() -> None:
    made, watch = gate()
    watch.failed(StoreBusy("a lock"))
    assert made.refusal is None
    watch.failed(StoreUnavailable("away"))
    assert made.reasons == ("postgres does not answer",)
    watch.answered()
    assert made.refusal is None
