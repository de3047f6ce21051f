"""When to try what: fake clock, fixed randomness where a bound matters."""

from collections.abc import Callable
from random import Random

import pytest

from device.route import Route, State
from device.timing import Timing
from shared.protocol.close_codes import Return

TIMING = Timing()


def route(*, has_rest: bool = True, seed: int = 1) -> Route:
    return Route(Random(seed), 0.0, TIMING, has_rest=has_rest)


def test_the_first_try_is_jittered_too() -> None:
    dues = {round(route(seed=seed).socket_due, 6) for seed in range(50)}
    assert len(dues) == 50
    assert all(0 <= due <= TIMING.backoff_base_s for due in dues)


def test_rest_begins_within_the_grace_time_whatever_the_tries_do() -> None:
    for seed in range(50):
        due = route(seed=seed).rest_due
        assert due is not None
        assert TIMING.grace_s / 2 <= due <= TIMING.grace_s


def test_rest_begins_and_is_answered_within_ten_seconds_and_a_probe_within_sixty() -> None:
    """As arithmetic over the settings: the slowest start of REST; the longest pause and try of the socket."""
    assert TIMING.grace_s + TIMING.open_s < 10
    tries = 3 * (TIMING.open_s + TIMING.welcome_s)
    assert TIMING.backoff_cap_s + TIMING.request_s + tries <= 60


def test_the_states_follow_what_works() -> None:
    one = route()
    states = [one.state]
    steps: list[Callable[[], None]] = [
        lambda: one.on_failed(1.0),  # REST has not been tried
        lambda: one.on_rest_failed(2.0),
        lambda: one.on_rest_ok(3.0),
        lambda: one.on_live(4.0, 0.0),
        lambda: one.on_gone(Return.AFTER_BACKOFF, 1006, 20.0),
        lambda: one.on_rest_ok(21.0),
        lambda: one.on_rest_failed(22.0),  # the socket has not been tried again
        lambda: one.on_failed(23.0),
    ]
    for step in steps:
        step()
        states.append(one.state)
    assert [state.value for state in states] == [
        "connecting", "connecting", "offline", "rest", "live", "connecting", "rest", "connecting", "offline",
    ]  # fmt: skip


def test_without_rest_a_failed_socket_is_offline() -> None:
    alone = route(has_rest=False)
    alone.on_failed(1.0)
    assert alone.state is State.OFFLINE
    assert alone.rest_due is None


def test_while_live_nothing_is_due() -> None:
    one = route()
    one.on_live(1.0, 2.0)
    assert (one.socket_due, one.rest_due) == (float("inf"), None)


def test_told_to_come_back_is_spread_over_what_the_hub_says_and_backs_off_when_repeated() -> None:
    delays = []
    for seed in range(200):
        one = route(seed=seed)
        one.on_live(1.0, 10.0)
        one.on_gone(Return.NOW, 4001, 100.0)
        delays.append(one.socket_due - 100.0)
    assert 0 <= min(delays) < 1
    assert 9 < max(delays) <= 10
    bound = 0.0
    one = route()
    now = 0.0
    for _ in range(12):
        one.on_live(now, 0.0)
        now += 0.1
        one.on_gone(Return.NOW, 4001, now)
        bound = max(bound, one.socket_due - now)
        now = one.socket_due
    assert bound > 5, "a hub that welcomes and sends away is not asked twice a second"


def test_a_socket_that_lived_starts_the_backoff_anew() -> None:
    one = route()
    for _ in range(10):
        one.on_failed(0.0)
    one.on_live(0.0, 0.0)
    one.on_gone(Return.AFTER_BACKOFF, 1006, TIMING.stable_s)
    assert one.socket_due - TIMING.stable_s <= TIMING.backoff_base_s


def test_a_fleet_that_lost_its_hub_is_spread_over_what_the_hub_said() -> None:
    delays = []
    for seed in range(200):
        one = route(seed=seed)
        one.on_live(0.0, 8.0)
        one.on_gone(Return.AFTER_BACKOFF, 1006, 100.0)
        delays.append(one.socket_due - 100.0)
    assert max(delays) > 7
    assert sum(delays) / len(delays) == pytest.approx(4.0, abs=0.6)


def test_retry_after_is_followed_and_bounded() -> None:
    one = route()
    one.on_failed(0.0, 5.0)
    assert 5.0 <= one.socket_due <= 1.25 * 5.0 + TIMING.backoff_base_s
    one.on_failed(0.0, 86400.0)
    assert one.socket_due <= 1.25 * TIMING.retry_after_max_s + TIMING.backoff_cap_s
    one.on_rest_failed(0.0, 86400.0)
    assert one.rest_due is not None
    assert one.rest_due <= 1.25 * TIMING.retry_after_max_s + TIMING.backoff_cap_s


def test_a_fleet_that_is_refused_with_one_retry_after_does_not_come_back_together() -> None:
    dues, rest_dues = [], []
    for seed in range(1000):
        one = route(seed=seed)
        one.on_failed(0.0, 8.0)
        one.on_rest_failed(0.0, 8.0)
        dues.append(one.socket_due)
        rest_dues.append(one.rest_due or 0.0)
    for times in (dues, rest_dues):
        assert min(times) >= 8.0, "not before the time that the server named"
        busiest = max(sum(start <= due < start + 0.25 for due in times) for start in [8 + n * 0.125 for n in range(20)])
        assert busiest <= 200, "spread over two seconds and more"


def test_a_token_that_ran_out_is_no_reason_to_wait_and_a_retired_key_is_everybodys() -> None:
    for code, bound in ((4200, TIMING.backoff_base_s), (4201, 10.0)):
        delays = []
        for seed in range(200):
            one = route(seed=seed)
            one.on_live(0.0, 10.0)
            one.on_gone(Return.WITH_NEW_TOKEN, code, 100.0)
            delays.append(one.socket_due - 100.0)
        assert 0.9 * bound < max(delays) <= bound


def test_while_a_socket_is_being_replaced_the_state_is_live_until_that_fails_or_rest_begins() -> None:
    def replaced() -> Route:
        one = route()
        one.on_live(0.0, 2.0)
        one.on_gone(Return.NOW, 4002, 50.0, replaced=True)
        assert one.state is State.LIVE
        assert one.rest_due is not None
        assert one.rest_due <= 50.0 + TIMING.grace_s, "REST waits for nobody"
        return one

    one = replaced()
    one.on_live(51.0, 2.0)
    assert one.state is State.LIVE
    one = replaced()
    one.on_failed(51.0)
    assert one.state is State.CONNECTING
    one = replaced()
    one.on_rest_ok(53.0)
    assert one.state is State.REST


def test_flapping_means_rest_now_and_the_socket_later() -> None:
    one = route()
    one.on_live(0.0, 0.0)
    one.on_gone(Return.AFTER_BACKOFF, 4103, 100.0)
    assert one.rest_due is not None
    assert one.rest_due <= 101.0
    assert 130.0 <= one.socket_due <= 160.0


def test_flapping_without_rest_only_waits() -> None:
    one = route(has_rest=False)
    one.on_live(0.0, 0.0)
    one.on_gone(Return.AFTER_BACKOFF, 4103, 100.0)
    assert one.rest_due is None


def test_an_early_empty_page_slows_the_polling() -> None:
    one = route()
    dues = []
    for _ in range(8):
        one.on_rest_ok(0.0, idle=True)
        dues.append(one.rest_due or 0.0)
    assert max(dues) > 2.0
    one.on_rest_ok(0.0)
    assert one.rest_due == 0.0


def test_hurry_brings_forward_and_never_puts_off() -> None:
    one = route()
    for _ in range(8):
        one.on_failed(0.0)
        one.on_rest_failed(0.0)
    one.hurry(0.0)
    assert (one.socket_due, one.rest_due) == (0.0, 0.0)
    one.hurry(50.0)
    assert (one.socket_due, one.rest_due) == (0.0, 0.0)


def test_to_be_asked_later_is_no_failure_and_makes_no_later_wait_longer() -> None:
    one = route()
    for _ in range(20):
        one.on_rest_later(100.0, 3.0)
        assert one.state is State.REST
        assert one.rest_due is not None
        assert 103.0 <= one.rest_due <= 100.0 + 1.25 * 3.0 + TIMING.backoff_base_s
