"""Flat or rising, and what a process says of itself."""

from random import Random

from loadtests.ports import free_port
from loadtests.vitals import Series, read_vitals, rises, rising, vitals_in


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


def test_a_page_of_metrics_says_memory_descriptors_and_tasks() -> None:
    page = (
        "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 4.194304e+06\n"
        "process_open_fds 12.0\nfleetwire_process_tasks 7.0\nprocess_max_fds 99.0\n"
    )
    assert vitals_in(page) == {"rss_mib": 4.0, "descriptors": 12.0, "tasks": 7.0}


def test_a_process_that_does_not_answer_says_nothing() -> None:
    assert read_vitals(free_port()) == {}


def test_what_rises_is_named() -> None:
    seconds = [float(n) for n in range(100)]
    series = {
        "hub-1 tasks": Series(seconds, [20.0 + n for n in range(100)]),
        "hub-1 descriptors": Series(seconds, [30.0] * 100),
    }
    assert rising(series) == ["hub-1 tasks"]
