"""A storm, small, and when one has passed."""

from typing import Any

import pytest
import uvloop

from loadtests.stand import running_stand
from loadtests.statements import LOGGING
from loadtests.storm import blow, lines, passed, record_missed

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


@pytest.mark.processes
def test_a_few_devices_are_shown_what_they_missed_and_every_statement_is_counted() -> None:
    names = [f"storm-{number}" for number in range(20)]
    with running_stand(durable=False, postgres_settings=LOGGING) as stand:
        uvloop.run(stand.make_devices(names))
        uvloop.run(record_missed(stand, names, 3))
        with stand.hub(capacity=len(names)) as hub:
            figures = blow(stand, hub, names, 3, deadline_s=30)
    assert passed(figures, seconds=30, most_statements=200), figures
    assert figures["welcomed"] == 20
    assert figures["shown"] == 60
    counted = figures["statements_by_name"]
    assert {"greet", "read_pages", "record_acks"} <= set(counted)
    assert sum(counted.values()) == figures["statements"]
