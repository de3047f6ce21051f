"""Flat or rising: the soak's judgement."""

from random import Random

from loadtests.vitals import rises


def test_noise_is_flat_and_a_leak_is_not() -> None:
    rand = Random(1)
    seconds = [float(n) for n in range(200)]
    assert not rises(seconds, [100 + rand.gauss(0, 3) for _ in seconds], 1.0)
    assert rises(seconds, [100 + 0.2 * n + rand.gauss(0, 3) for n in seconds], 1.0)


def test_what_grows_at_first_and_then_holds_is_flat() -> None:
    seconds = [float(n) for n in range(200)]
    assert not rises(seconds, [min(n, 50.0) for n in seconds], 1.0)


def test_a_rise_below_the_floor_is_not_called_a_leak() -> None:
    seconds = [float(n) for n in range(200)]
    assert not rises(seconds, [100 + 0.01 * n for n in seconds], 8.0)
