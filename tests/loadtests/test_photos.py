"""The run of 2,000 photos, with a few small ones."""

import os
from pathlib import Path

import pytest

from loadtests.photos import Series, Wanted, measure, passed


@pytest.mark.processes
@pytest.mark.timeout(180)
async def test_photos_of_every_kind_pass_and_leave_no_memory_behind(tmp_path: Path) -> None:
    wanted = Wanted(photos=24, corpus=12, megapixels=(0.2, 1.0))
    figures = await measure(wanted, tmp_path, os.environ)
    assert passed(figures, growth_mb=60, memory_mb=500, ratio=0.0), figures
    assert figures["photos"] == 24
    assert set(figures["ratio"]) == {"plain", "same"}


def test_growth_is_from_the_second_quarter_to_the_last() -> None:
    assert Series([50.0] * 10 + [90.0] * 30).growth() == 0
    assert Series([float(n) for n in range(40)]).growth() == 20


def test_a_slow_a_growing_and_a_refusing_run_do_not_pass() -> None:
    good = {"refused": [], "processes_lost": 0, "growth_mb": 1.0, "peak_mb": 300.0, "ratio": {"plain": 0.9}}
    bounds = {"growth_mb": 10.0, "memory_mb": 500.0, "ratio": 0.8}
    assert passed(good, **bounds)
    for wrong in (
        {"refused": ["a"]}, {"processes_lost": 1}, {"growth_mb": 11.0}, {"peak_mb": 501.0}, {"ratio": {"plain": 0.7}},
    ):  # fmt: skip
        assert not passed(good | wrong, **bounds)
