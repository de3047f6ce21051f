"""Who is pinged when, and whose silence means that it is gone."""

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
