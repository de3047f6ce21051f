"""What was read, as it is shown."""

from typing import Any

import pytest

from api.dashboard.hub_answer import WrongAnswer, read_state
from api.dashboard.slices import Asked, Rates, device_values, hub_values, slots_of, stage_value, total_value
from shared.store.fleet_view import DeviceRow, SeenHub, StageTimes
from shared.store.hubs import HubRow
from shared.store.queues import QueueState

HUB = HubRow("hub-1", "run", "ws://h", 3, 10, draining=False)
MOVING = {"left": 0, "done": 0, "leaving": 0, "skipped": {}, "rate": 50, "eta_s": 0.0, "paused": False, "held": False}
STATE: dict[str, Any] = {
    "phase": "open",
    "not_ready": [],
    "bus": "ok",
    "connections": 4,
    "capacity": 10,
    "own": 3,
    "strangers": 1,
    "view": {"hub-1": "run"},
    "view_settled": True,
    "moving": MOVING,
    "devices": {"truck-7": {"sent": 9, "acked": 8, "rtt_ms": 40.5, "behind": False, "moving": False}},
}
DEVICE = DeviceRow("truck-7", "truck", 1, 9, 0, 5, "hub-1", 0.0, 1.26, 75.0, None)


def state_of(hub: HubRow, asked: Asked | None, silent_s: float = 0.0) -> str:
    return str(
        hub_values([SeenHub(hub, silent_s, 60.0)], {"hub-1": asked} if asked else {}, {}, silence_s=15)["hub/hub-1"][
            "state"
        ]
    )


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "ready"),
        ({"bus": "deaf", "not_ready": ["the bus does not reach this hub"]}, "deaf"),
        ({"bus": "degraded"}, "degraded"),
        ({"not_ready": ["postgres does not answer"]}, "not ready"),
        ({"phase": "draining", "not_ready": ["draining"]}, "draining"),
        ({"connections": 10}, "full"),
    ],
)
def test_a_hub_is_shown_with_the_worst_that_is_true(changed: dict[str, Any], word: str) -> None:
    assert state_of(HUB, Asked(read_state(STATE | changed))) == word


def test_a_hub_that_is_silent_or_cannot_be_asked_is_shown_as_that() -> None:
    assert state_of(HUB, Asked(read_state(STATE)), silent_s=16) == "silent"
    assert state_of(HUB, Asked(trouble="cannot be asked")) == "unasked"
    assert state_of(HUB._replace(leaving=True), None) == "draining"


def test_what_the_hub_knows_of_a_device_is_newer_than_what_is_recorded() -> None:
    [shown] = device_values([DEVICE], {"hub-1": Asked(read_state(STATE))}).values()
    assert (shown["acked"], shown["lag"], shown["rtt_ms"], shown["here"]) == (8, 1, 40.5, True)
    [unasked] = device_values([DEVICE], {"hub-1": Asked(trouble="away")}).values()
    assert (unasked["acked"], unasked["lag"], unasked["rtt_ms"], unasked["here"]) == (5, 4, None, False)


def test_what_retention_removed_is_no_lag() -> None:
    [shown] = device_values([DEVICE._replace(floor=9)], {}).values()
    assert shown["lag"] == 0


def test_ages_do_not_change_with_every_look() -> None:
    shown = [
        next(iter(device_values([DEVICE._replace(connected_s=seconds)], {}).values()))["since_s"]
        for seconds in (3.2, 71.0, 79.9, 4000.0)
    ]
    assert shown == [3, 70, 70, 3960]


def test_slots_are_shared_out_among_all_hubs() -> None:
    slots = slots_of(["hub-1", "hub-2", "hub-3"])
    assert sum(slots.values()) == 1024
    assert min(slots.values()) > 250
    assert slots_of([]) == {}


def test_a_rate_begins_at_nothing_and_survives_a_restart() -> None:
    rates = Rates()
    rates.saw("a", 100, 1.0)
    assert rates.per_s == 0
    rates.saw("a", 150, 2.0)
    rates.saw("b", 7, 2.0)
    assert rates.per_s == 50
    rates.saw("b", 27, 4.0)
    assert rates.per_s == 60
    rates.saw("a", 10, 3.0)
    assert rates.per_s == 10
    rates.keep(frozenset())
    assert rates.per_s == 0


def test_the_waterfall_has_every_stage_in_order() -> None:
    times = StageTimes(3, (0.001, 0.002, 0.003), (0.01, 0.02, 0.03), (None, None, None))
    rows = stage_value(
        times,
        {"fanned_out": (5, [0.001, 0.004, 0.01]), "sent": (5, [0.0, 0.001, 0.002]), "acked": (5, [0.02, 0.04, 0.05])},
    )
    assert [row["stage"] for row in rows] == ["detected", "claimed", "recorded", "fanned_out", "sent", "acked"]
    assert rows[1] == {"stage": "claimed", "of": 3, "ms": [10.0, 20.0, 30.0]}
    assert [row["ms"] for row in stage_value(None, {})] == [[None, None, None]] * 6


def test_what_is_not_known_yet_is_nothing_and_queues_add_up() -> None:
    total = total_value(None, {"connections": 3}, [QueueState("a", waiting=2), QueueState("b", waiting=1, running=4)])
    assert (total["devices"], total["connections"], total["waiting"], total["running"]) == (None, 3, 3, 4)


def test_an_older_hubs_answer_is_taken_and_what_is_none_is_not() -> None:
    older = {name: STATE[name] for name in ("phase", "connections", "capacity", "not_ready", "moving")}
    assert state_of(HUB, Asked(read_state(older | {"said_by_a_newer_one": 1}))) == "ready"
    wrong: Any
    for wrong in ([], {}, older | {"connections": "many"}, older | {"devices": {"truck-7": 1}}):
        with pytest.raises(WrongAnswer):
            read_state(wrong)
