"""Who is pinged when, and whose silence means that it is gone."""

from hypothesis import given
from hypothesis import strategies as st

from hub.keepalive import Pulse, PulseTimes, Signs, Verdict

TIMES = PulseTimes(20.0, 8.0)


def signs(heard: int = 0, *, written: int = 0, unsent: int = 0, stuck: bool = False, link_gone: bool = False) -> Signs:
    return Signs(heard, written, unsent, stuck, link_gone)


def test_the_first_ping_is_spread_and_the_next_ones_are_regular() -> None:
    pulse = Pulse(TIMES, 0.0, luck=0.25)
    assert pulse.due == 5.0
    assert pulse.visit(5.0, signs()) is Verdict.PING
    assert pulse.due == 13.0
    assert pulse.visit(6.0, signs(1)) is Verdict.WAIT
    assert pulse.due == 25.0
    assert pulse.visit(25.0, signs(1)) is Verdict.PING


def test_a_dead_link_is_found_within_thirty_seconds_of_its_last_byte() -> None:
    pulse = Pulse(TIMES, 0.0, luck=1.0)
    assert pulse.visit(20.0, signs(5)) is Verdict.PING
    assert pulse.visit(28.0, signs(5)) is Verdict.GONE


def test_a_buffer_that_drains_is_a_sign_of_life_and_our_own_ping_is_not() -> None:
    pulse = Pulse(TIMES, 0.0, luck=1.0)
    assert pulse.visit(20.0, signs(written=1000, unsent=900, stuck=True)) is Verdict.PING
    assert pulse.visit(28.0, signs(written=1002, unsent=500, stuck=True)) is Verdict.WAIT
    assert pulse.alive_at == 28.0
    assert pulse.visit(40.0, signs(written=1002, unsent=0)) is Verdict.PING
    assert pulse.visit(48.0, signs(written=1004, unsent=0)) is Verdict.GONE


def test_a_stuck_program_is_left_to_the_session_but_a_dead_link_under_it_is_not() -> None:
    pulse = Pulse(TIMES, 0.0, luck=1.0)
    pulse.visit(20.0, signs(written=100, unsent=100, stuck=True))
    assert pulse.visit(28.0, signs(written=102, unsent=102, stuck=True)) is Verdict.WAIT
    assert pulse.visit(36.0, signs(written=102, unsent=102, stuck=True, link_gone=True)) is Verdict.GONE


def test_a_process_that_stood_still_blames_nobody() -> None:
    pulse = Pulse(TIMES, 0.0, luck=1.0)
    pulse.visit(20.0, signs())
    pulse.forgive(60.0)
    assert pulse.visit(60.0, signs()) is Verdict.WAIT
    assert pulse.visit(61.0, signs(1)) is Verdict.WAIT
    assert pulse.visit(80.0, signs(1)) is Verdict.PING


def test_who_was_heard_since_the_ping_needs_no_judging_and_is_not_looked_at_closely() -> None:
    pulse = Pulse(TIMES, 0.0, luck=1.0)
    assert pulse.visit(20.0, signs(1)) is Verdict.PING
    assert pulse.due == 28.0
    assert pulse.glance(28.0, 2, 20.0)
    assert (pulse.alive_at, pulse.due) == (28.0, 40.0)
    assert not pulse.glance(40.0, 2, 20.0), "silent since, and due for a ping"
    assert pulse.visit(40.0, signs(2)) is Verdict.PING
    assert not pulse.glance(48.0, 2, 40.0)
    assert pulse.visit(48.0, signs(2)) is Verdict.GONE


def test_a_device_that_is_sent_events_and_acks_them_is_pinged_only_to_measure_the_round_trip() -> None:
    pulse = Pulse(TIMES, 0.0, luck=0.5)
    heard, pings = 0, []
    while (now := pulse.due) < 1000.0:
        heard += 1
        if not pulse.glance(now, heard, now - 4.5) and pulse.visit(now, signs(heard)) is Verdict.PING:
            pings.append(now)
    assert pings == [10.0 + 8 * 20.0 * number for number in range(7)]


@given(st.floats(0.0, 1.0), st.lists(st.floats(0.1, 40.0), max_size=30), st.floats(0.0, 0.25))
def test_no_silence_gets_longer_than_a_heartbeat_by_a_ping_that_was_left_out(
    luck: float, pauses: list[float], late: float
) -> None:
    """Traffic both ways with pauses, every ping answered at once, and visits that are late as a wheel's are."""
    pulse = Pulse(TIMES, 0.0, luck=luck)
    events = [sum(pauses[: number + 1]) for number in range(len(pauses))]
    heard, quiet_at = 0, 0.0
    while pulse.due < sum(pauses) + 100.0:
        now = pulse.due + late
        while events and events[0] <= now:
            heard, quiet_at = heard + 1, events.pop(0)
        assert now - quiet_at <= 20.0 + late + 1e-6
        if not pulse.glance(now, heard, quiet_at) and (
            pulse.visit(now, Signs(heard, 0, 0, False, False, quiet_at)) is Verdict.PING
        ):
            heard, quiet_at = heard + 1, now


def test_an_event_that_all_get_at_once_does_not_have_all_pinged_at_once() -> None:
    pulses = [Pulse(TIMES, 0.0, luck=number / 200) for number in range(200)]
    pings: list[float] = []
    for pulse in pulses:
        heard, quiet_at = 0, 0.0
        while (now := pulse.due) < 130.0:
            if now >= 45.0 > quiet_at:
                heard, quiet_at = heard + 1, 45.0
            if not pulse.glance(now, heard, quiet_at) and (
                pulse.visit(now, Signs(heard, 0, 0, False, False, quiet_at)) is Verdict.PING
            ):
                heard, quiet_at = heard + 1, now
                pings.append(now)
    for second in range(130):
        assert sum(second <= ping < second + 1 for ping in pings) <= 2 * len(pulses) / 20.0 + 2
