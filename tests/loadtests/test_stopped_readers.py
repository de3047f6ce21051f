"""When a run with stopped readers has passed."""

from typing import Any

import pytest

from loadtests.stopped_readers import lines, passed

PHASE = {"count": 100, "p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.0, "p99.9_ms": 4.0, "max_ms": 5.0}
GOOD: dict[str, Any] = {
    "devices": 100,
    "event_bytes": 131072,
    "fed_bytes_per_s_each": {"absent": 1_000_000, "stopped": 990_000},
    "hub_mib_before": 66.0,
    "kernel_mib": [9.0],
    "hub_growth_mib": [88.7],
    "hub_growth_mib_per_device": 0.887,
    "hub_growth_mib_after_they_left": [20.0],
    "others_ms": dict.fromkeys(("quiet", "absent", "stopped"), PHASE),
    "p99_ratio": 1.05,
    "hub_cpu_share": {"quiet": 0.02, "absent": 0.03, "stopped": 0.04},
    "wrong_order": 0,
    "went_on_when_read_again": 3,
    "cut_before_the_end": 0,
}


def test_a_run_within_its_goal_has_passed_and_says_what_it_saw() -> None:
    assert passed(GOOD, mib_each=1.2, p99_ratio=1.2)
    said = "\n".join(lines(GOOD))
    assert "0.89 MiB for each" in said
    assert "stopped 0.99" in said


@pytest.mark.parametrize(
    "bad",
    [{"hub_growth_mib_per_device": 1.3}, {"p99_ratio": 1.21}, {"wrong_order": 1}, {"cut_before_the_end": 1}],
)
def test_one_thing_that_is_not_as_it_must_be_fails_it(bad: dict[str, Any]) -> None:
    assert not passed(GOOD | bad, mib_each=1.2, p99_ratio=1.2)
