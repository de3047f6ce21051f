"""The order of a feed's steps, and when it asks its provider: by activity, hints, limits and trouble."""

import itertools
from random import Random
from typing import Any

from shared.cloud.provider import Change, Changed, ChangePage, Span
from watcher.remote.effects import Arrive, Effect, Fetch, Record, Settle, Sweep, Wait
from watcher.remote.feed_machine import FeedMachine, FeedStart, PollTimes

FILE = Changed("1", "file", parent_id="0", name="a", version="qx:1")


def page(*changes: Change, more: bool = False, full: bool = False, cursor: str = "c", **how: Any) -> ChangePage:
    return ChangePage(changes, cursor, more=more, full=full, **how)


class Feed:
    """A machine that has taken up what waited, at a time of its own."""

    def __init__(self, *, cursor: str | None = "c0", times: PollTimes | None = None, **start: Any) -> None:
        self.now = 100.0
        self.machine = FeedMachine(FeedStart(cursor=cursor, **start), times or PollTimes(), Random(1), self.now)
        assert self.next() == Arrive()
        self.machine.on_arrived(more=False)

    def next(self) -> Effect:
        return self.machine.next(self.now)

    def fetched(self, told: ChangePage) -> None:
        assert isinstance(self.next(), Fetch)
        self.machine.on_fetched(told, self.now)

    def recorded(self, told: ChangePage, **how: Any) -> Record:
        self.fetched(told)
        record = self.next()
        assert isinstance(record, Record)
        self.machine.on_recorded(self.now, **how)
        return record

    def wait(self) -> float:
        """Until the next poll, in seconds."""
        effect = self.next()
        assert isinstance(effect, Wait)
        waited = effect.until - self.now
        self.now = effect.until
        return waited


def test_a_run_whose_pages_say_what_is_gone_is_over_with_its_last_page() -> None:
    feed = Feed(cursor=None, times=PollTimes(resync_s=1e9))
    first = feed.recorded(page(FILE, more=True, full=True, span=Span("", "1")))
    assert (first.phase, first.ends, first.baseline, first.full) == ("full", False, True, True)
    last = feed.recorded(page(full=True, span=Span("1", None)))
    assert (last.phase, last.ends, last.baseline, last.full) == ("changes", True, True, True)
    assert feed.machine.baselined
    assert feed.wait() > 0, "there is nothing left to sweep"
    again = feed.recorded(page(FILE, full=True, span=Span("", None)))
    assert (again.phase, again.ends, again.baseline, again.begins) == ("changes", True, False, "provider")


def test_a_run_that_a_page_of_another_kind_left_to_be_swept_is_swept() -> None:
    feed = Feed(phase="sweep", generation=7)
    assert feed.next() == Sweep(7, "")


def test_a_feed_without_a_cursor_begins_with_a_run_over_everything() -> None:
    feed = Feed(cursor=None)
    assert feed.next() == Fetch(None, "first")
    record = feed.recorded(page(FILE, more=True, full=True))
    assert (record.phase, record.generation, record.begins, record.baseline) == ("full", 1, "first", True)
    assert feed.next() == Fetch("c", None)
    assert feed.recorded(page(full=True)).phase == "sweep"
    assert feed.next() == Sweep(1, "")
    feed.machine.on_swept("1", feed.now)
    assert feed.next() == Sweep(1, "1")
    feed.machine.on_swept(None, feed.now)
    assert feed.machine.phase == "changes"
    assert feed.machine.baselined


def test_a_page_is_committed_before_the_next_is_asked_for() -> None:
    feed = Feed()
    feed.fetched(page(FILE, more=True, cursor="c1"))
    for _ in range(3):
        assert isinstance(feed.next(), Record)
    feed.machine.on_store_failed(feed.now)
    assert feed.wait() <= 2.1
    assert isinstance(feed.next(), Record), "not known whether it was committed"
    feed.machine.on_recorded(feed.now)
    assert feed.next() == Fetch("c1")


def test_what_folders_left_waits_until_all_is_told() -> None:
    feed = Feed()
    feed.recorded(page(FILE, more=True), unsettled=True)
    assert isinstance(feed.next(), Fetch)
    feed.recorded(page(FILE))
    assert feed.next() == Settle(baseline=True)


def test_a_feed_that_begins_in_the_middle_of_what_is_told_settles_nothing_yet() -> None:
    assert Feed(more=True, unsettled=True).next() == Fetch("c0")


def test_polls_come_soon_while_things_change_and_ever_later_while_they_do_not() -> None:
    feed = Feed(times=PollTimes(active_s=1.0, idle_s=10.0))
    feed.recorded(page(FILE))
    waits = []
    for _ in range(9):
        waits.append(feed.wait())
        feed.fetched(page())
        if isinstance(feed.next(), Record):
            feed.machine.on_recorded(feed.now)
    assert waits[0] <= 1.0
    assert all(later >= 0.85 * sooner for sooner, later in itertools.pairwise(waits))
    assert 8.9 <= waits[-1] <= 10.0
    feed.wait()
    feed.recorded(page(FILE))
    assert feed.wait() <= 1.0


def test_a_hint_makes_the_next_poll_due_at_once() -> None:
    feed = Feed()
    feed.recorded(page(FILE))
    feed.now += 0.5
    feed.machine.on_hint(feed.now)
    assert isinstance(feed.next(), Fetch)


def test_a_hint_that_comes_while_the_provider_is_asked_makes_another_poll_due() -> None:
    feed = Feed()
    assert isinstance(feed.next(), Fetch)
    feed.machine.on_hint(feed.now)
    feed.machine.on_fetched(page(FILE), feed.now)
    assert isinstance(feed.next(), Record)
    feed.machine.on_recorded(feed.now)
    assert feed.wait() <= 0.1
    assert isinstance(feed.next(), Fetch)


def test_a_thousand_hints_are_one_poll() -> None:
    feed = Feed()
    feed.recorded(page(FILE))
    feed.now += 1.0
    for _ in range(1000):
        feed.machine.on_hint(feed.now)
    feed.fetched(page())
    assert isinstance(feed.next(), Wait)


def test_a_rate_limit_is_kept_whatever_is_hinted() -> None:
    feed = Feed()
    assert isinstance(feed.next(), Fetch)
    feed.machine.on_limited(30.0, feed.now)
    feed.machine.on_hint(feed.now)
    assert 30.0 <= feed.wait() <= 33.1
    assert isinstance(feed.next(), Fetch)


def test_what_the_provider_asks_for_between_polls_is_kept() -> None:
    feed = Feed()
    feed.recorded(page(FILE, hint_s=7.0))
    assert feed.wait() >= 7.0


def test_trouble_at_the_provider_waits_ever_longer_within_a_bound() -> None:
    feed = Feed(times=PollTimes(error_base_s=0.5, error_max_s=60.0))
    waits = []
    for _ in range(20):
        assert isinstance(feed.next(), Fetch)
        feed.machine.on_cloud_failed(feed.now)
        waits.append(feed.wait())
    assert waits[0] <= 0.8
    assert max(waits) <= 60.3
    assert max(waits[10:]) > 10.0


def test_a_cursor_lost_in_the_middle_of_a_run_begins_another_under_a_new_generation() -> None:
    feed = Feed(cursor=None)
    feed.recorded(page(FILE, more=True, full=True))
    assert isinstance(feed.next(), Fetch)
    feed.machine.on_expired("https://there", feed.now)
    assert feed.next() == Fetch("https://there", "expired")
    record = feed.recorded(page(FILE, full=True))
    assert (record.generation, record.begins, record.phase) == (2, "expired", "sweep")


def test_cursors_that_are_lost_again_and_again_do_not_make_a_storm() -> None:
    feed = Feed()
    assert isinstance(feed.next(), Fetch)
    feed.machine.on_expired(None, feed.now)
    assert feed.next() == Fetch(None, "expired")
    feed.machine.on_expired(None, feed.now)
    assert feed.wait() > 0.0


def test_a_provider_that_tells_everything_unasked_begins_a_run() -> None:
    feed = Feed(generation=4)
    record = feed.recorded(page(FILE, full=True, more=True))
    assert (record.begins, record.generation, record.phase) == ("provider", 5, "full")


def test_everything_is_read_again_when_it_is_due_or_wanted() -> None:
    feed = Feed(scanned_age_s=0.0, times=PollTimes(resync_s=1000.0))
    feed.recorded(page(FILE))
    feed.now += 1200.0
    assert feed.next() == Fetch(None, "due")
    other = Feed()
    other.recorded(page(FILE))
    other.machine.on_full_asked()
    assert other.next() == Fetch(None, "asked")


def test_a_cursor_that_moved_while_nothing_changed_is_kept_now_and_then() -> None:
    feed = Feed(times=PollTimes(keep_s=60.0))
    feed.recorded(page(FILE))
    feed.wait()
    feed.fetched(page(cursor="c2"))
    assert isinstance(feed.next(), Wait), "not worth a transaction"
    feed.now += 61.0
    feed.fetched(page(cursor="c3"))
    assert isinstance(feed.next(), Record)


def test_content_that_cannot_be_had_now_holds_up_the_step_and_no_longer_than_asked() -> None:
    feed = Feed()
    feed.fetched(page(FILE))
    feed.machine.on_content_failed(5.0, feed.now)
    assert feed.wait() == 5.0
    assert isinstance(feed.next(), Record)
