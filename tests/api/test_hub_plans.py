"""Plans for hubs: what they say, and what confirms them."""

from datetime import UTC, datetime, timedelta

import pytest

from api.descriptions.hubs import PlanBody
from api.hub_plans import CONFIRM_S, NotConfirmed, confirmation, made, planned
from api.pagination import SignedCursors
from shared.store.hubs import HubRow

CURSORS = SignedCursors({"files-1": b"k" * 32})
NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
MOVE = PlanBody("move")


def hub(name: str, connections: int = 10, *, instance: str = "run", draining: bool = False) -> HubRow:
    return HubRow(name, instance, "ws://h", connections, 20, draining)


HUBS = [hub("hub-1"), hub("hub-2", 18)]


def test_a_plan_adds_up_what_hubs_counted() -> None:
    counts = {
        "hub-1": {"stay": 7, "move": {"hub-2": 3}, "refused": {}},
        "hub-2": {"stay": 17, "move": {"hub-1": 1}, "refused": {"hub-1": "draining"}},
    }
    plan = made(MOVE, HUBS, counts, [])
    assert [(move.from_hub, move.to, move.devices, move.refused) for move in plan.moves] == [
        ("hub-1", "hub-2", 3, None),
        ("hub-2", "hub-1", 1, "draining"),
    ]
    assert (plan.devices, plan.stay) == (4, 24)
    assert plan.warnings == ["hub-2 has room for 2 of 3 devices: the rest waits or stays"]
    only = made(PlanBody("move", None, "hub-2"), HUBS, counts, [])
    assert (only.devices, only.stay) == (3, 25)


def test_a_drain_says_what_becomes_of_the_hub_and_when_nobody_else_is_there() -> None:
    body = PlanBody("drain", "hub-1")
    plan = made(body, HUBS, {"hub-1": {"stay": 0, "move": {"hub-2": 1}, "refused": {}}}, [])
    assert [warning for warning in plan.warnings if "starts it again" in warning]
    alone = made(
        body, [hub("hub-1"), hub("hub-2", draining=True)], {"hub-1": {"stay": 0, "move": {"": 9}, "refused": {}}}, []
    )
    assert alone.moves[0].to is None
    assert [warning for warning in alone.warnings if "REST" in warning]


def test_what_confirms_a_plan_is_good_for_the_same_question_hubs_and_a_while() -> None:
    text = confirmation(CURSORS, MOVE, HUBS, NOW, 4)
    assert planned(CURSORS, MOVE, text, HUBS, NOW + timedelta(seconds=CONFIRM_S)) == 4
    later = NOW + timedelta(seconds=CONFIRM_S + 1)
    for body, hubs, now in (
        (PlanBody("move", "hub-1"), HUBS, NOW),
        (PlanBody("drain", "hub-1"), HUBS, NOW),
        (MOVE, [hub("hub-1"), hub("hub-2", 18, instance="another run")], NOW),
        (MOVE, [hub("hub-1"), hub("hub-2", 18, draining=True)], NOW),
        (MOVE, HUBS[:1], NOW),
        (MOVE, HUBS, later),
    ):
        with pytest.raises(NotConfirmed):
            planned(CURSORS, body, text, hubs, now)
    with pytest.raises(NotConfirmed):
        planned(CURSORS, MOVE, "made-up", HUBS, NOW)
    # Loads change all the time, and change nothing.
    assert planned(CURSORS, MOVE, text, [hub("hub-1", 3), hub("hub-2", 4)], NOW) == 4
