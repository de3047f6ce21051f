"""The workers' policy: three up to a hundred waiting jobs, ten at most, and a depth that is lost is not zero."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.scaling.steadiness import Step
from infra.scaling.worker_policy import WorkerRules, WorkerScaler

FAST = WorkerRules(quiet_s=0.0, up=Step(10, 1.0), down=Step(10, 1.0))


def followed(
    scaler: WorkerScaler, depth: Callable[[float], int | None], *, workers: int, seconds: float, every_s: float = 15.0
) -> list[int]:
    """How many workers there are after each look, when each decision is carried out at once."""
    curve, now = [], 0.0
    while now < seconds:
        decision = scaler.decide(depth(now), workers, now)
        scaler.changed(decision.change, now)
        workers = decision.workers
        curve.append(workers)
        now += every_s
    return curve


@pytest.mark.parametrize(
    ("waiting", "current", "wanted"),
    [(0, 3, 3), (99, 3, 3), (100, 3, 4), (200, 3, 7), (301, 3, 10), (100_000, 3, 10), (0, 1, 3), (0, 10, 3)],
)
def test_above_a_hundred_waiting_jobs_there_are_more_than_three(waiting: int, current: int, wanted: int) -> None:
    # From ten, what there is counts as the first answer, and only the next look may remove.
    scaler = WorkerScaler("requests", FAST)
    scaler.decide(waiting, current, 0.0)
    assert scaler.decide(waiting, current, 10.0).workers == wanted


def test_a_depth_that_is_lost_keeps_the_number_and_begins_the_quiet_time_anew() -> None:
    rules = WorkerRules(quiet_s=60.0, up=Step(10, 1.0), down=Step(10, 1.0))
    scaler = WorkerScaler("ai", rules)

    def depth(now: float) -> int | None:
        return 400 if now < 15 else None if now < 1200 else 0

    curve = followed(scaler, depth, workers=3, seconds=1500)
    assert curve[:80] == [10] * 80
    assert curve[80:83] == [10] * 3  # the quiet time after the last look that knew nothing
    assert curve[-1] == 3
    assert WorkerScaler("ai", rules).decide(None, 5, 0.0).workers == 5
    assert "nobody knows" in WorkerScaler("ai", rules).decide(None, 5, 0.0).why


def test_a_burst_adds_in_steps_and_its_end_removes_one_at_a_time_after_the_quiet_time() -> None:
    scaler = WorkerScaler("requests", WorkerRules())
    curve = followed(scaler, lambda now: 1000 if now < 120 else 0, workers=3, seconds=900)
    assert curve[:4] == [7, 7, 10, 10]
    quiet = int((105 + 300) / 15)
    assert set(curve[4:quiet]) == {10}
    steps = [(before, after) for before, after in pairwise(curve) if after != before]
    assert all(before - after == 1 for before, after in steps if after < before)
    assert curve[-1] == 3


@given(st.integers(0, 10_000), st.integers(3, 10))
def test_a_constant_depth_has_an_answer_that_asks_for_no_other(waiting: int, current: int) -> None:
    curve = followed(WorkerScaler("requests", FAST), lambda _: waiting, workers=current, seconds=300)
    assert len(set(curve[2:])) == 1
    assert 3 <= curve[-1] <= 10


def test_what_is_said_names_the_queue_and_the_bound() -> None:
    scaler = WorkerScaler("requests", FAST)
    assert scaler.decide(1, 3, 0.0).why == (
        "1 job waits in requests, 3 workers (target 30 each); 1 worker would do, 3 is the fewest"
    )
    assert scaler.decide(1000, 3, 5.0).why == (
        "1000 jobs wait in requests, 3 workers (target 30 each); 34 workers would do, 10 is the most"
    )


@pytest.mark.parametrize("wrong", [{"workers_min": 0}, {"workers_min": 11}, {"target": 0}, {"tolerance": 1.0}])
def test_rules_that_contradict_themselves_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="contradict"):
        WorkerRules(**wrong)  # type: ignore[arg-type]
