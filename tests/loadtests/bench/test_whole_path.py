"""When a rate counts as held, and how it is shown."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from loadtests.bench.whole_path import held, table

GOOD: dict[str, Any] = {
    "rate": 1000,
    "wanted": 30_000,
    "recorded": 29_990,
    "recorded_per_s": 1000,
    "late_s": 0.02,
    "shown": 29_990,
    "gaps": 0,
    "shown_ms": {"p50_ms": 3.0, "p99_ms": 9.0},
    "acks_recorded": 29_990,
    "ack_recorded_ms": {"p50_ms": 400.0, "p99_ms": 700.0},
    "cpu_us_per_event": {"postgres": 30.0, "valkey": 2.0, "hub": 20.0, "appender": 20.0, "devices": 9.0},
    "held": True,
}


def test_all_recorded_shown_and_acked_in_time_is_held() -> None:
    assert held(GOOD)


@pytest.mark.parametrize(
    "bad",
    [
        {"recorded": 29_000, "shown": 29_000, "acks_recorded": 29_000},
        {"shown": 29_989},
        {"acks_recorded": 29_989},
        {"gaps": 1},
        {"late_s": 1.1},
        {"shown_ms": {"p50_ms": 3.0, "p99_ms": 1001.0}},
    ],
)
def test_one_thing_that_is_not_as_it_must_be_is_not_held(bad: dict[str, Any]) -> None:
    assert not held(GOOD | bad)


def test_the_table_shows_each_process() -> None:
    said = StringIO()
    Console(width=150, file=said).print(table([GOOD | {"shown": 29_980}]))
    for name in ("Postgres", "Valkey", "hub", "appender", "devices"):
        assert name in said.getvalue()
    (row,) = (line for line in said.getvalue().splitlines() if "1,000" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("1,000", "yes", "3.0", "9.0", "400", "700"),
        *("30.0", "2.0", "20.0", "20.0", "9.0", "10"),
    ]
