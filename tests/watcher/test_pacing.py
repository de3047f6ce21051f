"""When a path is due, with a clock that the test turns."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from watcher.pacing import FileStat, Notice, Pacing

STAT = FileStat(1, 2, 3)
OTHER = FileStat(1, 3, 4)


def pacing(limit: int = 100) -> Pacing:
    return Pacing(settle_s=0.05, quiet_s=0.5, limit=limit)


def due(paths: Pacing, now: float) -> list[str]:
    return [look.path for look in paths.take(now, 100)]


def test_a_file_moved_in_is_due_at_once() -> None:
    paths = pacing()
    paths.notice("a", Notice.MOVED_IN, 1.0)
    assert due(paths, 1.0) == ["a"]


def test_a_closed_file_is_due_when_it_has_settled() -> None:
    paths = pacing()
    paths.notice("a", Notice.CLOSED, 1.0)
    assert due(paths, 1.04) == []
    assert paths.next_due() == 1.05
    assert due(paths, 1.05) == ["a"]


def test_a_file_closed_again_and_again_is_not_put_off_for_ever() -> None:
    paths = pacing()
    now = 1.0
    while not (taken := due(paths, now)):
        paths.notice("a", Notice.CLOSED, now)
        now += 0.01
        assert now < 3.0
    assert taken == ["a"]


def test_a_linked_file_is_due_after_the_settle_time() -> None:
    paths = pacing()
    paths.notice("a", Notice.CREATED, 1.0)
    assert due(paths, 1.05) == ["a"]


def test_a_file_that_is_being_written_waits_for_its_close() -> None:
    paths = pacing()
    paths.notice("a", Notice.CREATED, 1.0)
    paths.notice("a", Notice.OPENED, 1.0)
    assert paths.found("a", STAT, 2.0)
    assert due(paths, 60.0) == []
    paths.notice("a", Notice.CLOSED, 61.0)
    assert due(paths, 61.05) == ["a"]


def test_opening_a_file_that_nobody_waits_for_is_no_news() -> None:
    paths = pacing()
    paths.notice("a", Notice.OPENED, 1.0)
    assert len(paths) == 0


def test_opening_a_file_while_it_is_looked_at_does_not_make_it_written() -> None:
    paths = pacing()
    paths.notice("a", Notice.CREATED, 1.0)
    assert due(paths, 2.0) == ["a"]
    paths.notice("a", Notice.OPENED, 2.0)
    paths.finished("a", 2.0)
    assert len(paths) == 0


def test_what_a_scan_finds_is_looked_at_after_the_quiet_time_and_must_be_the_same() -> None:
    paths = pacing()
    paths.found("a", STAT, 1.0)
    assert due(paths, 1.4) == []
    (look,) = paths.take(1.5, 10)
    assert look.expect == STAT
    paths.unsettled("a", 1.5, OTHER)
    assert due(paths, 1.9) == []
    (again,) = paths.take(2.0, 10)
    assert again.expect == OTHER


def test_what_a_scan_misses_is_looked_at_once() -> None:
    paths = pacing()
    paths.found("a", None, 1.0)
    assert due(paths, 1.0) == ["a"]


def test_a_notice_while_a_path_is_looked_at_makes_it_due_again() -> None:
    paths = pacing()
    paths.notice("a", Notice.MOVED_IN, 1.0)
    assert due(paths, 1.0) == ["a"]
    paths.notice("a", Notice.CLOSED, 1.01)
    assert due(paths, 2.0) == []
    paths.finished("a", 2.0)
    assert due(paths, 2.0) == ["a"]
    paths.finished("a", 2.0)
    assert len(paths) == 0


def test_a_file_removed_and_put_again_is_another_file() -> None:
    paths = pacing()
    paths.notice("a", Notice.REMOVED, 1.0)
    paths.notice("a", Notice.MOVED_IN, 1.0)
    (look,) = paths.take(1.0, 10)
    assert look.fresh


def test_a_removal_counts_once_and_also_after_a_failed_look() -> None:
    paths = pacing()
    paths.notice("a", Notice.REMOVED, 1.0)
    paths.take(1.0, 10)
    assert paths.failed("a", 1.0)
    (look,) = paths.take(5.0, 10)
    assert look.fresh
    paths.notice("a", Notice.CLOSED, 5.0)
    paths.finished("a", 5.0)
    (look,) = paths.take(6.0, 10)
    assert not look.fresh


def test_a_removal_during_the_look_counts_for_the_next_one() -> None:
    paths = pacing()
    paths.notice("a", Notice.MOVED_IN, 1.0)
    paths.take(1.0, 10)
    paths.notice("a", Notice.REMOVED, 1.0)
    paths.finished("a", 1.0)
    (look,) = paths.take(1.0, 10)
    assert look.fresh


def test_a_notice_makes_a_find_of_the_first_scan_news() -> None:
    paths = pacing()
    paths.found("a", STAT, 1.0, baseline=True)
    assert paths.baseline_left == 1
    paths.notice("a", Notice.CLOSED, 1.2)
    assert paths.baseline_left == 0
    (look,) = paths.take(1.25, 10)
    assert look.live
    assert not look.baseline
    assert look.expect is None


def test_failures_are_tried_again_ever_later_and_then_left_to_the_scan() -> None:
    paths = pacing()
    paths.notice("a", Notice.MOVED_IN, 0.0)
    now, waits = 0.0, []
    while paths.take(now, 10) and paths.failed("a", now):
        when = paths.next_due()
        assert when is not None
        waits.append(when - now)
        now = when
    assert len(paths) == 0
    assert len(waits) == 8
    assert waits == sorted(waits)
    assert sum(waits) < 120


def test_the_number_of_paths_is_bounded_and_known_ones_still_count() -> None:
    paths = pacing(limit=2)
    assert paths.notice("a", Notice.CREATED, 1.0)
    assert paths.notice("b", Notice.CREATED, 1.0)
    assert not paths.notice("c", Notice.MOVED_IN, 1.0)
    assert not paths.found("d", STAT, 1.0)
    assert paths.notice("a", Notice.MOVED_IN, 1.0)
    assert due(paths, 1.0) == ["a"]


def test_when_closes_may_have_been_lost_written_files_are_left_to_the_scan() -> None:
    paths = pacing()
    paths.notice("a", Notice.CREATED, 1.0)
    paths.notice("a", Notice.OPENED, 1.0)
    paths.notice("b", Notice.CLOSED, 1.0)
    paths.forget_writing()
    assert "a" not in paths
    assert "b" in paths


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: a path last noticed by a move or a close is looked at soon afterwards."""

    paths = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        self.pacing = pacing()
        self.now = 0.0
        self.looking: set[str] = set()
        self.owed: dict[str, float] = {}

    @rule(path=st.sampled_from(paths), what=st.sampled_from(list(Notice)))
    def notice(self, path: str, what: Notice) -> None:
        assert self.pacing.notice(path, what, self.now)
        if what in (Notice.MOVED_IN, Notice.CLOSED, Notice.REMOVED):
            self.owed.setdefault(path, self.now)
        elif what is Notice.CREATED:
            # Somebody creates anew: from here on the close counts.
            self.owed.pop(path, None)

    @rule(path=st.sampled_from(paths))
    def found(self, path: str) -> None:
        self.pacing.found(path, STAT, self.now)

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.5, 2.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for look in self.pacing.take(self.now, 10):
            assert look.path not in self.looking
            self.looking.add(look.path)
            self.owed.pop(look.path, None)

    @rule(path=st.sampled_from(paths), how=st.sampled_from(["finished", "unsettled", "failed"]))
    def answer(self, path: str, how: str) -> None:
        if path not in self.looking:
            return
        self.looking.discard(path)
        if how == "finished":
            self.pacing.finished(path, self.now)
        elif how == "unsettled":
            self.pacing.unsettled(path, self.now, STAT)
        else:
            self.pacing.failed(path, self.now)

    @invariant()
    def what_is_owed_is_here_and_due_soon(self) -> None:
        for path in self.owed:
            assert path in self.pacing
            if path not in self.looking:
                due_at = self.pacing.next_due()
                assert due_at is not None
                assert due_at <= self.now + 0.06


AnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
