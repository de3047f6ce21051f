from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.breaker import Breaker, BreakerRules

RULES = BreakerRules(in_a_row=3, among=20, at_least=5, window_s=60, slow_s=30, open_s=10, open_max_s=80, trials=2)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(3):
        breaker.failed(now)
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker = Breaker(RULES)
    for now in range(2):
        breaker.failed(now)
    assert breaker.admits(2)
    breaker.succeeded(2)
    breaker.failed(3)
    assert breaker.state(3) == "closed"
    assert opened().state(0) == "open"
    assert not opened().admits(9.9)


def test_half_of_the_last_ones_failing_opens_it() -> None:
    breaker = Breaker(RULES)
    for now in range(4):
        breaker.failed(now)
        breaker.succeeded(now)
    assert breaker.state(4) == "closed"
    breaker.failed(4)
    assert breaker.state(4) == "open"


def test_what_failed_long_ago_counts_no_more() -> None:
    breaker = Breaker(RULES)
    for now in range(0, 1000, 50):
        breaker.failed(now)
        breaker.succeeded(now)
    assert breaker.state(1000) == "closed"


def test_slow_is_as_bad_as_failed() -> None:
    breaker = Breaker(RULES)
    for now in range(3):
        breaker.succeeded(now, 31)
    assert breaker.state(3) == "open"


def test_when_its_time_is_over_one_at_a_time_tries_and_successes_close_it() -> None:
    breaker = opened()
    assert breaker.state(10) == "half_open"
    breaker.sent(10)
    assert not breaker.admits(11), "one is on the way"
    breaker.succeeded(12)
    assert breaker.admits(12)
    assert breaker.state(12) == "half_open"
    breaker.sent(12)
    breaker.succeeded(13)
    assert breaker.state(13) == "closed"
    breaker.failed(14)
    assert breaker.state(14) == "closed", "what was before is forgotten"


def test_a_trial_that_fails_opens_it_for_twice_as_long_up_to_a_bound() -> None:
    breaker = opened()
    now, waits = 10.0, []
    for _ in range(6):
        breaker.sent(now)
        breaker.failed(now)
        wait = next(s for s in range(1, 1000) if breaker.state(now + s) == "half_open")
        waits.append(wait)
        now += wait
    assert waits == [20, 40, 80, 80, 80, 80]


def test_a_trial_of_which_nothing_is_heard_is_over_after_a_while() -> None:
    breaker = opened()
    breaker.sent(10)
    assert not breaker.admits(10 + RULES.trial_s - 1)
    assert breaker.admits(10 + RULES.trial_s)


def test_a_store_that_says_when_to_come_back_rests_until_then_and_is_well_after() -> None:
    breaker = Breaker(RULES)
    breaker.failed(0, 30)
    breaker.failed(1, 5)
    assert (breaker.state(29), breaker.state(30)) == ("resting", "closed")
    breaker.failed(30, 1e9)
    assert breaker.state(330) == "closed", "but nobody rests for ever"


def test_who_was_on_the_way_when_it_opened_does_not_close_it() -> None:
    breaker = opened()
    for _ in range(5):
        breaker.succeeded(1)
    assert breaker.state(1) == "open"
    breaker.failed(2)
    assert breaker.state(10) == "half_open", "nor lengthens it"


def test_processes_do_not_try_in_the_same_second() -> None:
    ends = []
    for spread in (0.0, 1.0):
        breaker = Breaker(RULES, spread=spread)
        for _ in range(3):
            breaker.failed(0)
        ends.append(next(tenth for tenth in range(1000) if breaker.state(tenth / 10) == "half_open"))
    assert ends == [75, 125]


@given(st.lists(st.tuples(st.sampled_from(["ok", "slow", "bad", "later", "sent"]), st.floats(0, 100)), max_size=60))
def test_whatever_happens_it_is_tried_again_within_a_bound(events: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(RULES), 0.0
    for what, after in events:
        now += after
        if what == "ok":
            breaker.succeeded(now)
        elif what == "slow":
            breaker.succeeded(now, 99)
        elif what == "bad":
            breaker.failed(now)
        elif what == "later":
            breaker.failed(now, 20)
        else:
            breaker.sent(now)
    assert any(breaker.admits(now + s) for s in (0, 100, RULES.trial_s + 300))
