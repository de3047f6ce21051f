"""What a link shows after the welcome, and what it gets for it. The clock is a number."""

from hypothesis import given
from hypothesis import strategies as st

from hub.keepalive import Pulse, PulseTimes
from hub.link_profile import LOOK_S, GoodLink
from hub.link_watch import LinkWatch

KIB = 1024
GOOD = GoodLink(heartbeat_s=20.0, answer_s=8.0, first_bytes=64 * KIB)
MAX_BYTES = 1024 * KIB


def watch(*, rtt_s: float = 0.02, flaps: float = 1.0, heartbeat_s: float = 20.0) -> LinkWatch:
    return LinkWatch(GOOD, rtt_s=rtt_s, flaps=flaps, heartbeat_s=heartbeat_s, max_bytes=MAX_BYTES)


def pulse() -> Pulse:
    return Pulse(PulseTimes(20.0, 8.0), 0.0, luck=0.5)


def test_a_link_that_answers_late_gets_longer_to_answer_and_is_asked_sooner() -> None:
    link, asked = watch(), pulse()
    link.answered(3.0, asked)
    assert asked.times == PulseTimes(16.0, 12.0)


def test_a_link_that_recovers_gets_back_what_it_had() -> None:
    link, asked = watch(), pulse()
    link.answered(3.0, asked)
    for _ in range(8):
        link.answered(0.02, asked)
    assert asked.times == PulseTimes(20.0, 8.0)


@given(st.floats(5.0, 20.0), st.lists(st.floats(0.0, 60.0), max_size=9), st.floats(0.0, 20.0))
def test_a_device_is_never_asked_later_than_its_welcome_said(told_s: float, rtts: list[float], flaps: float) -> None:
    link, asked = watch(flaps=flaps, heartbeat_s=told_s), Pulse(PulseTimes(told_s, 8.0), 0.0, luck=0.5)
    for rtt_s in rtts:
        link.answered(rtt_s, asked)
        assert asked.times.heartbeat_s <= told_s


def test_nothing_is_looked_for_while_no_device_catches_up() -> None:
    link = watch()
    assert link.due(5.0) == float("inf")
    assert link.ceiling(5.0, 10 * KIB, is_live=False) is None


def test_what_is_in_flight_follows_what_the_acks_of_a_catch_up_show() -> None:
    link = watch(rtt_s=0.5)
    link.catches_up(10.0, 0)
    assert link.due(10.0) == 10.0 + LOOK_S
    assert link.ceiling(10.0, 0, is_live=False) is None
    assert link.ceiling(11.0, 20 * KIB, is_live=False) == 100 * KIB
    assert link.ceiling(12.0, 20_000 * KIB, is_live=False) == MAX_BYTES


def test_later_round_trips_do_not_add_to_what_is_in_flight() -> None:
    link = watch(rtt_s=0.5)
    link.catches_up(10.0, 0)
    link.answered(30.0, pulse())
    assert link.ceiling(11.0, 20 * KIB, is_live=False) == 100 * KIB


def test_a_catch_up_that_stands_still_is_not_looked_at_until_it_moves_again() -> None:
    link = watch()
    link.catches_up(10.0, 0)
    link.ceiling(11.0, 5 * KIB, is_live=False)
    link.ceiling(12.0, 5 * KIB, is_live=False)
    assert link.due(12.0) == float("inf")
    link.catches_up(40.0, 6 * KIB)
    assert link.due(40.0) == 40.0 + LOOK_S


def test_a_device_that_is_live_again_has_caught_up() -> None:
    link = watch()
    link.catches_up(10.0, 0)
    assert link.ceiling(11.0, 64 * KIB, is_live=True) is None
    assert (link.due(11.0), repr(link)) == (float("inf"), "LinkWatch(20 ms, no catch-up)")
