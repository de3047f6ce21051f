"""Devices of other hubs are counted while they are here, and sent home when the rule and the time allow."""

from dataclasses import dataclass

from hub.rebalance import View
from hub.strangers import Strangers
from shared.clock import monotonic


@dataclass(eq=False)
class Guest:
    device_id: str
    slot: int
    may_rehome: bool = True


VIEW = View({"hub-a": "1", "hub-b": "1"})
OWN = next(slot for slot in range(99) if VIEW.owner(slot) == "hub-a")
THEIRS = next(slot for slot in range(99) if VIEW.owner(slot) == "hub-b")


def test_only_those_of_other_hubs_are_counted_and_only_while_they_are_here() -> None:
    strangers = Strangers("hub-a", VIEW, list, stay_s=0.0)
    own, other = Guest("truck-1", OWN), Guest("truck-2", THEIRS)
    strangers.came(own)
    strangers.came(other)
    assert len(strangers) == 1
    again = Guest("truck-2", THEIRS, may_rehome=False)
    strangers.came(again)
    strangers.went(other)  # the connection before; the device is still here
    assert len(strangers) == 1
    assert strangers.rehomable(monotonic()) == []
    strangers.went(again)
    assert len(strangers) == 0


def test_a_stranger_is_sent_home_once_and_not_before_it_has_been_here_for_a_while() -> None:
    strangers = Strangers("hub-a", VIEW, list, stay_s=25.0)
    strangers.came(Guest("truck-2", THEIRS))
    now = monotonic()
    assert strangers.rehomable(now) == []
    assert strangers.rehomable(now + 26.0) == [("truck-2", THEIRS)]
    strangers.tried("truck-2")
    assert strangers.rehomable(now + 26.0) == []
    assert len(strangers) == 1


def test_all_are_judged_again_when_slots_have_other_owners() -> None:
    guests = [Guest("truck-1", OWN), Guest("truck-2", THEIRS)]
    strangers = Strangers("hub-a", View({"hub-a": "1"}), lambda: guests, stay_s=0.0)
    for guest in guests:
        strangers.came(guest)
    assert len(strangers) == 0
    strangers.judge_all(VIEW)
    assert len(strangers) == 1
