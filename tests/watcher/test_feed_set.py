"""What is refused is said once, and remembered within bounds."""

import pytest

from shared.telemetry.metrics import WATCHER_REFUSED
from watcher import feed_set
from watcher.feed_set import Refusals
from watcher.places import Refused


def count() -> float:
    return float(WATCHER_REFUSED.labels("link")._value.get())


def test_the_same_refusal_is_counted_once_however_often_it_is_met() -> None:
    refusals = Refusals()
    before = count()
    for _ in range(5):
        refusals.add(Refused("Requests/a/b", "link", "no"))
    assert count() - before == 1
    refusals.add(Refused("Requests/a/c", "link", "no"))
    assert count() - before == 2


def test_refusals_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_set, "_REFUSALS_MAX", 10)
    refusals = Refusals()
    for number in range(20):
        refusals.add(Refused(f"Requests/a/{number}", "link", "no"))
    assert len(refusals) == 10
