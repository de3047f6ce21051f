"""What follows from a link: by example, within bounds, and never better for a worse link; and links simulated."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.link_profile import LOOK_S, CatchUp, GoodLink, LinkProfile, in_flight_max, profile_of, settled_rtt
from hub.window import Window, WindowLimits

KIB = 1024
GOOD = GoodLink(heartbeat_s=20.0, answer_s=8.0, first_bytes=64 * KIB)


@pytest.mark.parametrize(
    ("link", "rtt_s", "flaps", "expected"),
    [
        ("not known yet", 0.0, 1.0, LinkProfile(20.0, 8.0, 64 * KIB)),
        ("warehouse on fibre", 0.004, 1.0, LinkProfile(20.0, 8.0, 64 * KIB)),
        ("truck on a good mobile link", 0.08, 1.9, LinkProfile(20.0, 8.0, 64 * KIB)),
        ("truck that flaps", 0.08, 5.0, LinkProfile(15.0, 8.0, 40 * KIB)),
        ("truck that is about to be parked", 0.08, 11.0, LinkProfile(10.0, 8.0, 16 * KIB)),
        ("2G", 0.8, 1.0, LinkProfile(20.0, 8.0, 36_500)),
        ("satellite behind a queue", 3.0, 1.0, LinkProfile(16.0, 12.0, 16 * KIB)),
        ("hardly a link", 30.0, 1.0, LinkProfile(10.0, 18.0, 16 * KIB)),
    ],
)
def test_by_example(link: str, rtt_s: float, flaps: float, expected: LinkProfile) -> None:
    assert profile_of(GOOD, rtt_s=rtt_s, flaps=flaps) == pytest.approx(expected), link


good_links = st.builds(
    GoodLink,
    heartbeat_s=st.floats(0.5, 22),
    answer_s=st.floats(0.1, 8),
    first_bytes=st.integers(1024, 2**20),
)
round_trips = st.floats(0, 100)
flaps = st.floats(0, 50)


@given(good_links, round_trips, flaps)
def test_every_answer_is_within_what_a_good_link_has(good: GoodLink, rtt_s: float, many: float) -> None:
    profile = profile_of(good, rtt_s=rtt_s, flaps=many)
    assert profile.heartbeat_s + profile.answer_s <= good.heartbeat_s + good.answer_s + 1e-9
    assert good.heartbeat_s / 2 - 1e-9 <= profile.heartbeat_s <= good.heartbeat_s
    assert profile.answer_s >= good.answer_s - 1e-9
    assert min(good.first_bytes, 16 * KIB) <= profile.first_bytes <= good.first_bytes


@given(good_links, round_trips, flaps, st.floats(0, 50), st.floats(0, 20))
def test_a_worse_link_never_gets_better_answers(
    good: GoodLink, rtt_s: float, many: float, longer_s: float, more: float
) -> None:
    better = profile_of(good, rtt_s=max(rtt_s, 0.001), flaps=many)
    worse = profile_of(good, rtt_s=max(rtt_s, 0.001) + longer_s, flaps=many + more)
    assert worse.heartbeat_s <= better.heartbeat_s + 1e-9
    assert worse.answer_s >= better.answer_s - 1e-9
    assert worse.first_bytes <= better.first_bytes


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 30), st.integers(1024, 2**18))
def test_more_is_in_flight_the_more_a_link_carries(rate: float, faster: float, rtt_s: float, first: int) -> None:
    slow = in_flight_max(rate, rtt_s=rtt_s, first_bytes=first, max_bytes=2**20)
    fast = in_flight_max(rate + faster, rtt_s=rtt_s, first_bytes=first, max_bytes=2**20)
    assert min(first, 16 * KIB) <= slow <= fast <= 2**20


def test_a_round_trip_is_worse_at_once_and_better_by_halves() -> None:
    assert settled_rtt(0.0, 0.3) == 0.3
    assert settled_rtt(0.3, 2.0) == 2.0
    assert settled_rtt(2.0, 0.2) == pytest.approx(1.1)


def test_a_rate_is_known_after_a_while_and_a_pause_does_not_undo_it() -> None:
    catch_up = CatchUp(100.0, 5_000)
    assert catch_up.look(100.2, 6_000) is None
    assert catch_up.look(101.0, 15_000) == 10_000
    assert (catch_up.look(102.0, 15_000), catch_up.moves) == (7_500, False)
    assert (catch_up.look(103.0, 35_000), catch_up.moves) == (20_000, True)


class Line:
    """A link of so many bytes per second and a round trip, with a device behind it that acks what it gets."""

    def __init__(self, rate: float, rtt_s: float) -> None:
        self._rate = rate
        self._rtt_s = rtt_s
        self._free_at = 0.0
        self._acks: deque[tuple[float, int]] = deque()

    def carry(self, seq: int, size: int, now: float) -> None:
        self._free_at = max(self._free_at, now) + size / self._rate
        self._acks.append((self._free_at + self._rtt_s, seq))

    def acked(self, now: float) -> int | None:
        seq = None
        while self._acks and self._acks[0][0] <= now:
            seq = self._acks.popleft()[1]
        return seq


def catch_up_over(rate: float, rtt_s: float, *, backlog: int, size: int = 1000) -> tuple[float, int, int]:
    """(seconds until all is acked, most bytes in flight from the fifth second on, budget at the end)."""
    profile = profile_of(GOOD, rtt_s=rtt_s, flaps=1.0)
    window = Window(WindowLimits(events=4096, first_bytes=profile.first_bytes))
    line, catch_up = Line(rate, rtt_s), CatchUp(0.0, 0)
    now, next_look, seq, most = 0.0, LOOK_S, 0, 0
    while window.used_events or seq < backlog:
        if (acked := line.acked(now)) is not None:
            window.release(acked)
        while seq < backlog and window.take(seq + 1, size):
            seq += 1
            line.carry(seq, size, now)
        if now >= 5.0:
            most = max(most, window.used_bytes)
        if now >= next_look:
            next_look += LOOK_S
            shown = catch_up.look(now, window.acked_bytes)
            assert shown is not None
            window.limit(in_flight_max(shown, rtt_s=rtt_s, first_bytes=GOOD.first_bytes, max_bytes=1024 * KIB))
        now += 0.01
    return now, most, window.budget


@pytest.mark.parametrize(("rate", "rtt_s"), [(8_000, 0.6), (8_000, 0.05), (30_000, 0.3), (100_000, 0.1)])
def test_a_slow_link_has_a_few_seconds_of_its_own_rate_in_flight(rate: float, rtt_s: float) -> None:
    needed, most, _ = catch_up_over(rate, rtt_s, backlog=int(rate * 30 / 1000))
    assert most <= max(rate * 7, 17_000)
    assert needed <= 30 * 1.15 + 2, "and is kept busy"


@pytest.mark.parametrize(("rate", "rtt_s"), [(10_000_000, 0.02), (2_000_000, 0.2)])
def test_a_good_link_soon_has_all_that_is_allowed(rate: float, rtt_s: float) -> None:
    needed, _, budget = catch_up_over(rate, rtt_s, backlog=20_000)
    assert budget == 1024 * KIB
    assert needed <= 20e6 / min(rate, 1024 * KIB / rtt_s) * 1.3 + 2
