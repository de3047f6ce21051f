"""When a storm has passed."""

from typing import Any

import pytest

from loadtests.storm import lines, passed

GOOD: dict[str, Any] = {
    "devices": 5000,
    "missed_each": 10,
    "first_syn_to_last_ack_recorded_s": 3.0,
    "statements": 100,
    "statements_by_name": {"greet": 60, "read_pages": 40},
    "lost": 0,
    "out_of_order_or_repeated": 0,
    "acks_not_recorded": 0,
    "refusals": {},
    "cut": 0,
    "connects_per_s": 2000,
    "welcome": {"p50_ms": 1000.0, "p99_ms": 2000.0},
    "hub_resident_kb_per_device": 10.0,
    "hub_cpu_s": 2.9,
    "postgres_cpu_s": 0.5,
    "driver_cpu_s": 0.2,
}


def test_a_storm_within_its_goal_has_passed_and_says_what_it_saw() -> None:
    assert passed(GOOD, seconds=5, most_statements=200)
    said = "\n".join(lines(GOOD))
    assert "3.00 s, 100 statements: greet 60, read_pages 40" in said


@pytest.mark.parametrize(
    "bad",
    [
        {"lost": 1},
        {"out_of_order_or_repeated": 1},
        {"acks_not_recorded": 1},
        {"statements": 201},
        {"first_syn_to_last_ack_recorded_s": 5.1},
        {"lost": -1},
    ],
)
def test_one_thing_that_is_not_as_it_must_be_fails_it(bad: dict[str, Any]) -> None:
    assert not passed(GOOD | bad, seconds=5, most_statements=200)
