"""The session against a bus that loses, repeats, delays and reorders, with acks by socket and REST, retention and new
epochs.
"""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.actions import Actions, End, Hold, ReadLog, RecordAck, Say, SendEvents
from hub.session import Session
from hub.window import WindowLimits
from shared.protocol.close_codes import CloseCode
from shared.store.log import Page, StoredEvent
from tests.hub.log_model import World

LIMITS = WindowLimits()
SMALL = WindowLimits(events=6, first_bytes=60, max_bytes=200)


def session(start: int = 0, head: int | None = None, **changes: object) -> Session:
    values: dict[str, object] = {"epoch": 1, "start": start, "head": start if head is None else head, "acked": start}
    values |= {"conn_term": 5, "instance": "a", "limits": LIMITS} | changes
    return Session(**values)  # type: ignore[arg-type]


def page(after: int, head: int, *, epoch: int = 1, floor: int = 0, acked: int = 0) -> Page:
    return Page(epoch, floor, head, acked, [StoredEvent(seq, b"%d" % seq) for seq in range(after + 1, head + 1)])


def sent(actions: Actions) -> list[int]:
    return [seq for action in actions if isinstance(action, SendEvents) for seq, _ in action.events]


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: contiguous, within the window, one read at a time, and in the end
    everything.
    """

    world: World

    @initialize(
        recorded=st.integers(0, 20),
        start=st.integers(0, 20),
        acked_before=st.integers(0, 20),
        small=st.booleans(),
        heard=st.integers(0, 3),
    )
    def connect(self, recorded: int, start: int, acked_before: int, small: bool, heard: int) -> None:
        world = World(SMALL if small else LIMITS)
        for _ in range(recorded):
            world.record(10, published=False)
        world.start = min(start, recorded)
        # A device may begin behind what it had acked before.
        world.cursor = max(world.start, min(acked_before, recorded))
        pending = world.head
        for _ in range(heard):
            world.record(10, published=False)
        bodies, world.bodies = world.bodies, world.bodies[:pending]
        world.open(heard=pending + heard if heard else 0)
        world.bodies = bodies
        self.world = world

    @rule(size=st.sampled_from([5, 10, 30, 90, 250]), published=st.booleans(), count=st.integers(1, 5))
    def record(self, size: int, published: bool, count: int) -> None:
        for _ in range(count):
            self.world.record(size, published=published)

    @rule()
    def record_a_burst(self) -> None:
        for _ in range(80):
            self.world.record(5)

    @precondition(lambda self: self.world.bus)
    @rule(data=st.data(), keep=st.booleans())
    def deliver_any(self, data: st.DataObject, keep: bool) -> None:
        self.world.deliver(data.draw(st.integers(0, len(self.world.bus) - 1)), keep=keep)

    @precondition(lambda self: self.world.bus)
    @rule(count=st.integers(1, 80))
    def deliver_in_order(self, count: int) -> None:
        for _ in range(min(count, len(self.world.bus))):
            self.world.deliver(0, keep=False)

    @precondition(lambda self: self.world.bus)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.world.bus.pop(data.draw(st.integers(0, len(self.world.bus) - 1)))

    @precondition(lambda self: self.world.read is not None and self.world.read.page is None)
    @rule()
    def the_read_takes_its_snapshot(self) -> None:
        self.world.look()

    @precondition(lambda self: self.world.read is not None)
    @rule()
    def the_page_arrives(self) -> None:
        self.world.answer()

    @precondition(lambda self: self.world.holds)
    @rule()
    def a_hold_is_over(self) -> None:
        self.world.hold_over()

    @precondition(lambda self: self.world.sweep is None)
    @rule()
    def a_sweep_begins(self) -> None:
        self.world.begin_sweep()

    @precondition(lambda self: self.world.sweep is not None)
    @rule()
    def the_sweep_comes_back(self) -> None:
        self.world.end_sweep()

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        self.world.ack(data.draw(st.integers(0, self.world.known_to_device)))

    @rule()
    def ack_all(self) -> None:
        self.world.ack(self.world.known_to_device)

    @rule(data=st.data())
    def fetch_and_ack_by_rest(self, data: st.DataObject) -> None:
        self.world.ack_by_rest(data.draw(st.integers(0, self.world.head)))

    @rule(floor=st.integers(0, 100))
    def trim(self, floor: int) -> None:
        self.world.trim(floor)

    @rule(ceiling=st.sampled_from([1, 20, 60, 150, 10_000]))
    def the_link_shows_what_it_carries(self, ceiling: int) -> None:
        self.world.session.window.limit(ceiling)

    @rule()
    def raise_the_epoch(self) -> None:
        if len(self.world.received) > 15:
            self.world.epoch += 1

    @invariant()
    def window_agrees(self) -> None:
        if hasattr(self, "world"):
            assert self.world.session.window.used_bytes >= 0
            acked = self.world.session.acked
            assert self.world.session.sent >= acked or acked == self.world.acked_at_open

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()
            self.world.assert_all_delivered()


AnyOrder.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = AnyOrder.TestCase


def test_an_ack_of_what_only_rest_told_of_counts_from_the_first_page_that_knows_it() -> None:
    world = World(LIMITS)
    world.record(10, published=False)
    world.bodies, bodies = [], world.bodies
    world.open(heard=1)
    world.bodies = bodies
    world.look()
    for _ in range(80):
        world.record(10)
    world.ack_by_rest(2)
    world.ack(2)
    world.answer()
    assert world.received == [1], "the page was of before"
    world.settle()
    assert world.received == [1, *range(3, 82)]


def test_a_device_that_begins_behind_what_it_had_acked_gets_everything_and_its_cursor_stays() -> None:
    world = World(SMALL)
    for _ in range(60):
        world.record(10, published=False)
    world.start, world.cursor = 5, 60
    world.open()
    world.settle()
    assert world.received == list(range(6, 61))
    assert world.cursor == 60
    assert world.session.is_live


def test_a_live_event_that_follows_is_sent_at_once() -> None:
    one = session(7)
    assert one.on_start() == ()
    assert one.on_bus(1, 8, b"x") == (SendEvents(((8, b"x"),)),)
    assert one.on_bus(1, 8, b"x") == ()
    assert one.is_live


def test_a_gap_is_held_and_closed_by_the_late_message_without_a_read() -> None:
    one = session(7)
    assert one.on_bus(1, 9, b"9") == (Hold(),)
    assert one.on_bus(1, 10, b"10") == ()
    assert sent(one.on_bus(1, 8, b"8")) == [8, 9, 10]
    assert one.on_hold_over() == ()


def test_a_gap_that_stays_is_read_after_the_hold_and_merged_with_what_was_held() -> None:
    one = session(7)
    one.on_bus(1, 10, b"10")
    assert one.on_hold_over() == (ReadLog(7, 256, 64 * 1024),)
    assert sent(one.on_page(Page(1, 0, 10, 7, page(7, 9).events))) == [8, 9, 10]


def test_a_full_hold_reads_at_once() -> None:
    one = session(0)
    actions: list[object] = []
    for seq in range(2, 100):
        actions += one.on_bus(1, seq, b"x")
    assert [type(action) for action in actions] == [Hold, ReadLog]
    assert sent(one.on_page(page(0, 99))) == list(range(1, 100))


def test_events_recorded_while_a_device_is_greeted_are_read() -> None:
    one = session(7, heard=9)
    assert one.on_start() == (ReadLog(7, 256, 64 * 1024),)


def test_the_window_fills_and_acks_pull_the_next_page() -> None:
    one = session(0, head=1000)
    (read,) = one.on_start()
    assert read == ReadLog(0, 256, 64 * 1024)
    assert sent(one.on_page(Page(1, 0, 1000, 0, page(0, 256).events))) == list(range(1, 257))
    assert one.behind
    assert one.on_bus(1, 1001, b"x") == ()
    assert one.on_ack(100) == [RecordAck(100)]
    assert one.on_ack(128) == [RecordAck(128), ReadLog(256, 128, one.window.room_bytes)]


def test_an_event_larger_than_the_budget_waits_for_an_empty_window_and_is_read_once() -> None:
    one = session(0)
    assert sent(one.on_bus(1, 1, b"x" * 10)) == [1]
    large = b"x" * 200_000
    assert one.on_bus(1, 2, large) == ()
    assert one.behind
    assert one.on_ack(1) == [RecordAck(1), ReadLog(1, 256, one.window.room_bytes)]
    assert sent(one.on_page(Page(1, 0, 2, 1, [StoredEvent(2, large)]))) == [2]
    assert one.is_live


def test_an_ack_above_what_was_sent_but_in_the_log_moves_the_session_on() -> None:
    one = session(3)
    one.on_bus(1, 6, b"6")
    assert one.on_ack(5) == [RecordAck(5), SendEvents([(6, b"6")])]
    assert one.sent == 6


def test_an_ack_above_the_known_head_is_believed_once_the_log_confirms_it() -> None:
    one = session(3)
    assert one.on_ack(5) == (ReadLog(3, 256, 64 * 1024),)
    assert one.on_page(page(3, 6))[:1] == [RecordAck(5)]
    assert one.sent == 6
    assert one.acked == 5


def test_acks_above_the_head_are_answered_twice_and_then_end_the_connection() -> None:
    one = session(3)
    for _ in range(2):
        one.on_ack(50)
        (said,) = one.on_page(page(3, 3))
        assert isinstance(said, Say)
        assert getattr(said.frame, "code", "") == "ack_above_head"
    one.on_ack(50)
    assert one.on_page(page(3, 3)) == [End(CloseCode.PROTOCOL_ERROR, "acks above the head of the log")]


def test_an_ack_above_the_head_is_judged_by_a_read_that_began_after_it() -> None:
    one = session(3)
    one.on_bus(1, 5, b"5")
    assert len(one.on_hold_over()) == 1
    assert one.on_ack(7) == ()
    actions = one.on_page(page(3, 5))
    assert sent(actions) == [4, 5]
    assert actions[-1] == ReadLog(5, 254, one.window.room_bytes)
    assert RecordAck(7) in one.on_page(page(5, 8))


def test_rest_acks_reach_the_session_by_the_sweep() -> None:
    one = session(3, head=8)
    one.on_start()
    one.on_page(page(3, 4))
    actions = one.on_swept(epoch=1, floor=0, head=8, acked=8, conn_term=5, instance="a", known_head=8)
    assert not actions
    assert one.sent == 8
    assert one.is_live


def test_a_head_that_only_the_sweep_knows_is_read_after_the_hold() -> None:
    one = session(3)
    assert one.on_swept(epoch=1, floor=0, head=5, acked=3, conn_term=5, instance="a", known_head=3) == [Hold()]
    assert one.on_hold_over() == (ReadLog(3, 256, 64 * 1024),)
    assert sent(one.on_page(page(3, 5))) == [4, 5]


def test_an_older_epoch_on_the_bus_is_dropped_and_a_newer_one_ends_the_connection() -> None:
    one = session(3)
    assert one.on_bus(0, 4, b"x") == ()
    assert one.on_bus(2, 4, b"x") == (End(CloseCode.HUB_TROUBLE, "log epoch raised"),)
    assert one.on_bus(2, 5, b"x") == ()


def test_an_epoch_raised_in_the_log_ends_the_connection() -> None:
    assert isinstance(session(3, head=4).end(CloseCode.HUB_TROUBLE)[0], End)
    one = session(3, head=4)
    one.on_start()
    assert one.on_page(page(3, 4, epoch=2)) == (End(CloseCode.HUB_TROUBLE, "log epoch raised"),)
    two = session(3)
    assert two.on_swept(epoch=2, floor=0, head=3, acked=3, conn_term=5, instance="a", known_head=3) == (
        End(CloseCode.HUB_TROUBLE, "log epoch raised"),
    )


def test_retention_that_passed_the_connection_ends_it_instead_of_skipping() -> None:
    one = session(3, head=9)
    one.on_start()
    (end,) = one.on_page(Page(1, 6, 9, 3, [StoredEvent(seq, b"x") for seq in (7, 8, 9)]))
    assert end == End(CloseCode.HUB_TROUBLE, "retention has passed this connection")


def test_a_hole_in_the_log_ends_the_connection_instead_of_skipping() -> None:
    one = session(3, head=9)
    one.on_start()
    assert one.on_page(Page(1, 0, 9, 3, [StoredEvent(5, b"x")]))[-1] == End(CloseCode.HUB_TROUBLE, "the log has a hole")


def test_a_log_that_lost_what_was_sent_ends_the_connection() -> None:
    one = session(7)
    one.on_bus(1, 8, b"8")
    one.on_bus(1, 10, b"10")
    one.on_hold_over()
    assert one.on_page(page(7, 7)) == (End(CloseCode.HUB_TROUBLE, "the log has lost events that were sent"),)


def test_what_was_heard_but_lost_before_it_was_sent_is_forgotten() -> None:
    one = session(7)
    one.on_bus(1, 10, b"of a lost log")
    one.on_hold_over()
    assert one.on_page(page(7, 8))[-1].events == [(8, b"8")]  # type: ignore[union-attr]
    assert one.is_live
    assert sent(one.on_bus(1, 9, b"new 9")) == [9]
    assert sent(one.on_bus(1, 10, b"new 10")) == [10]


def test_the_newest_connection_wins_and_the_code_says_whose_it_is() -> None:
    assert session().on_replaced(5, "b") == ()
    assert session().on_replaced(6, "a") == (End(CloseCode.SUPERSEDED, CloseCode.SUPERSEDED.reason),)
    assert session().on_replaced(6, "b") == (End(CloseCode.REPLACED, CloseCode.REPLACED.reason),)
    swept = session().on_swept(epoch=2, floor=0, head=3, acked=0, conn_term=6, instance="b", known_head=0)
    assert swept == (End(CloseCode.REPLACED, CloseCode.REPLACED.reason),)


def test_acks_are_recorded_after_the_end_because_the_device_sent_them_before_it_knew() -> None:
    one = session(0)
    one.on_bus(1, 1, b"1")
    one.end(CloseCode.DRAINING)
    assert one.on_ack(1) == (RecordAck(1),)


def test_a_device_that_takes_nothing_and_says_nothing_is_cut_after_a_minute() -> None:
    one = session(0)
    assert one.on_tick(0.0, alive_at=0.0, bytes_wait=True, patience_s=60.0) == ()
    assert one.on_tick(59.0, alive_at=0.0, bytes_wait=True, patience_s=60.0) == ()
    assert one.on_tick(60.0, alive_at=10.0, bytes_wait=True, patience_s=60.0) == ()
    assert one.on_tick(70.0, alive_at=10.0, bytes_wait=True, patience_s=60.0) == (
        End(CloseCode.NO_PROGRESS, "no progress"),
    )


def test_a_slow_device_that_still_moves_is_never_cut() -> None:
    one = session(0)
    for now in range(0, 600, 10):
        assert one.on_tick(float(now), alive_at=now - 50.0, bytes_wait=True, patience_s=60.0) == ()
    assert one.on_tick(1000.0, alive_at=0.0, bytes_wait=False, patience_s=60.0) == ()
    assert one.on_tick(1001.0, alive_at=0.0, bytes_wait=True, patience_s=60.0) == ()


@given(acks=st.lists(st.integers(0, 12), max_size=12), heard=st.lists(st.integers(1, 12), max_size=12))
def test_an_event_or_an_ack_passes_only_where_the_long_way_would_say_the_same(
    acks: list[int], heard: list[int]
) -> None:
    """What passes is the next event or a rising ack, and nothing waits, is read or is behind."""
    one = session()
    for seq in heard:
        before = one.sent
        if one.passes(1, seq, 1):
            assert (before + 1, seq) == (seq, one.sent)
        else:
            one.on_bus(1, seq, b"x")
    for seq in acks:
        acked, head = one.acked, one.head
        if one.ack_passes(seq):
            assert acked < seq <= head
            assert one.acked == seq
            assert one.window.used_events == max(0, one.sent - seq)
