"""What a fault run calls good, and what it does not."""

from dataclasses import replace

import pytest

from loadtests.bus_faults import Measured

GOOD = Measured(
    place="single",
    fault="Redis stopped",
    found_s=0.7,
    judged="degraded",
    judged_s=1.1,
    late_before_s=0.9,
    late_after_s=0.3,
    heard_again_s=0.4,
    stayed_ready=True,
    events=1000,
    lost=0,
    repeated=0,
    out_of_order=0,
    is_own=False,
)


def test_a_fault_within_its_bounds_is_good() -> None:
    assert GOOD.problems == []
    assert replace(GOOD, found_s=None, judged=None, judged_s=None).problems == []
    assert replace(GOOD, is_own=True, stayed_ready=False).problems == []


@pytest.mark.parametrize(
    "change",
    [
        {"judged_s": 1.6},
        {"late_before_s": 2.1},
        {"late_after_s": 0.6},
        {"heard_again_s": 3.1},
        {"stayed_ready": False},
        {"is_own": True},
        {"lost": 1},
        {"repeated": 1},
        {"out_of_order": 1},
    ],
)
def test_each_figure_beyond_its_bound_is_said(change: dict[str, float]) -> None:
    assert len(replace(GOOD, **change).problems) == 1  # type: ignore[arg-type]
