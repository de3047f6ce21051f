"""The session, without any network: single rules by example, the promise by random interleavings."""

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from device.actions import (
    Action,
    CloseLink,
    Delivery,
    EventsPage,
    Gone,
    Live,
    MoveTo,
    NoticeSaid,
    PageEvent,
    Ping,
    PostAck,
    Repeat,
    ResetSaid,
    SendAck,
    Skipped,
)
from device.seen import Begun, InProgress, SeenEvent, fingerprint
from device.session import Session
from shared.protocol.close_codes import Return
from shared.protocol.position import Position


def event(uid: str) -> dict[str, Any]:
    return {"id": uid, "source": "/t", "type": "ResponseReady", "data": {}}


def welcome(
    position: str = "1:0", *, acked: int = 0, head: int = 0, heartbeat_s: float = 10.0, ack_every: int = 16
) -> str:
    return json.dumps(
        {"type": "welcome", "session": "s", "hub": "h", "position": position, "acked": acked, "head": head,
         "heartbeat_s": heartbeat_s, "window": 256, "ack_every": ack_every, "ack_ms": 500, "jitter_s": 2.0}
    )  # fmt: skip


def event_frame(seq: int, uid: str | None = None, padding: int = 0) -> str:
    return json.dumps({"type": "event", "seq": seq, "event": {**event(uid or f"e{seq}"), "padding": "x" * padding}})


def reset_frame(position: str, reason: str = "retention") -> str:
    return json.dumps({"type": "reset", "position": position, "reason": reason})


def opened(session: Session, number: int = 1, *, now: float = 0.0, **fields: Any) -> list[Action]:
    session.on_open(number, now)
    return session.on_frame(number, welcome(**fields), now)


def taken(session: Session, now: float = 0.0) -> list[int]:
    """Take and finish all there is."""
    seqs = []
    while (one := session.take()) is not None:
        seqs.append(one.position.seq)
        session.finish(now)
    return seqs


def test_events_are_accepted_only_one_after_the_other() -> None:
    session = Session()
    assert opened(session, head=9) == [Live(1, 2.0)]
    for seq in (1, 2, 2, 1, 3):
        assert session.on_frame(1, event_frame(seq), 0.0) == []
    assert taken(session) == [1, 2, 3]
    assert session.counts.repeats == 2


def test_a_gap_closes_the_socket_and_is_never_jumped() -> None:
    session = Session()
    opened(session)
    session.on_frame(1, event_frame(1), 0.0)
    (close,) = session.on_frame(1, event_frame(3), 0.0)
    assert isinstance(close, CloseLink)
    assert session.on_frame(1, event_frame(2), 0.0) == [], "what still comes from it is not read"
    assert taken(session) == [1]
    (gone,) = session.on_closed(1, 1006, "")
    assert gone == Gone(1, Return.AFTER_BACKOFF, 1006, "", was_live=True)


def test_two_sockets_and_a_page_may_overlap() -> None:
    session = Session()
    opened(session, 1, position="1:7", acked=7)
    session.on_open(2, 0.0)
    session.on_frame(1, event_frame(8), 0.0)
    session.on_events_page(
        EventsPage(Position(1, 9), 9, False, [PageEvent(seq, event(f"e{seq}"), 10) for seq in (7, 8, 9)]), 0.0
    )
    actions = session.on_frame(2, welcome("1:7", acked=7), 0.0)
    assert actions == [Live(2, 2.0), CloseLink(1, 1000, "a newer socket of this client is live")]
    session.on_frame(2, event_frame(8), 0.0)
    session.on_frame(2, event_frame(9), 0.0)
    session.on_frame(2, event_frame(10), 0.0)
    assert taken(session) == [8, 9, 10]
    assert session.on_closed(1, 4002, "superseded") == [], "another socket is live"


def test_acks_are_gathered_by_count_by_bytes_and_by_time() -> None:
    session = Session()
    opened(session, ack_every=3)
    for seq in range(1, 6):
        session.on_frame(1, event_frame(seq), 0.0)
    acks = []
    for _ in range(5):
        session.take()
        acks += session.finish(0.0)
    assert acks == [SendAck(1, 3)]
    assert session.next_tick() == 0.5
    assert session.on_tick(0.5) == [SendAck(1, 5)]
    session.on_frame(1, event_frame(6, padding=20_000), 1.0)
    session.take()
    assert session.finish(1.0) == [SendAck(1, 6)], "a few large events fill the window: no waiting for a count"


def test_in_a_lull_an_ack_does_not_wait_when_more_is_there() -> None:
    """An event that does not fit beside what is unacked comes only after the ack."""
    session = Session()
    opened(session, head=3)
    session.on_frame(1, event_frame(1), 0.0)
    assert taken(session) == [1]
    assert session.next_tick() == 0.1, "the hub has two more"
    assert session.on_tick(0.05) == []
    session.on_frame(1, event_frame(2), 0.05)
    assert taken(session, 0.05) == [2]
    assert session.on_tick(0.1) == [], "they still flow"
    assert session.on_tick(0.16) == [SendAck(1, 2)]
    session.on_frame(1, event_frame(3), 1.0)
    assert taken(session, 1.0) == [3]
    assert session.on_tick(1.4) == [], "that was the last one known"
    assert session.on_tick(1.5) == [SendAck(1, 3)]


def test_in_a_lull_what_weighs_something_is_acked_soon_and_small_events_are_gathered() -> None:
    session = Session()
    opened(session)
    session.on_frame(1, event_frame(1, padding=5000), 0.0)
    assert taken(session) == [1]
    assert session.on_tick(0.1) == [SendAck(1, 1)]
    acks = []
    for seq in range(2, 66):  # 20 a second, as a device in use has them
        now = seq * 0.05
        acks += session.on_tick(now)
        session.on_frame(1, event_frame(seq, padding=100), now)
        assert taken(session, now) == [seq]
    assert len(acks) <= 8
    session.on_frame(1, event_frame(66, padding=6000), 4.0)
    session.on_frame(1, event_frame(67), 4.0)
    session.take()
    session.finish(4.0)
    assert session.on_tick(4.2) == [], "the application is at work: no lull"


def test_the_first_frame_is_an_ack_of_what_is_above_the_hubs() -> None:
    session = Session(position=Position(1, 8))
    assert opened(session, position="1:8", acked=5, head=8)[-1] == SendAck(1, 8)
    session = Session(position=Position(1, 8))
    assert opened(session, position="1:8", acked=8, head=8) == [Live(1, 2.0)]


def test_a_start_far_below_the_acked_position_is_acked_from_where_it_starts() -> None:
    """Events below the cursor fill the hub's window like others, and only acks empty it."""
    session = Session(position=Position(1, 100))
    assert opened(session, position="1:100", acked=800, head=800) == [Live(1, 2.0)], "nothing is finished yet"
    acks: list[Action] = []
    for seq in range(101, 101 + 256):
        acks += session.on_frame(1, event_frame(seq), 0.0)
        session.take()
        acks += session.finish(0.0)
    assert acks == [SendAck(1, seq) for seq in range(116, 101 + 256, 16)]


def test_what_a_page_brought_while_the_socket_opened_is_acked_on_it() -> None:
    """The hub starts where it was asked to, and what it sends from there is in its window until it is acked."""
    session = Session(position=Position(1, 2))
    session.on_open(1, 0.0)
    session.on_events_page(
        EventsPage(Position(1, 4), 9, False, [PageEvent(seq, event(f"e{seq}"), 10) for seq in (3, 4)]), 0.0
    )
    assert taken(session) == [3, 4]
    actions = session.on_frame(1, welcome("1:2", acked=9, head=9), 0.0)
    assert actions == [Live(1, 2.0), SendAck(1, 4)]


def test_by_rest_an_ack_below_the_cursor_is_posted_once() -> None:
    session = Session(position=Position(1, 100))
    session.use_rest(True)
    assert session.on_tick(0.0) == [PostAck(Position(1, 100))], "what the server holds is not known yet"
    assert session.on_ack_posted(Position(1, 800), 0.1) == []
    for first in range(101, 801, 100):
        page = [PageEvent(seq, event(f"e{seq}"), 10) for seq in range(first, first + 100)]
        assert session.on_events_page(EventsPage(Position(1, first + 99), 800, True, page), 1.0) == []
        assert len(taken(session, 2.0)) == 100
        assert session.on_tick(9.0) == []
    session.on_events_page(EventsPage(Position(1, 801), 801, False, [PageEvent(801, event("e801"), 10)]), 10.0)
    assert taken(session, 10.0) == [801]
    session.on_tick(10.0)
    assert session.on_tick(11.0) == [PostAck(Position(1, 801))]


def test_an_event_the_server_holds_as_acked_is_said_to_be_redelivered() -> None:
    """The file is older than what was acked, as after restoring the device's disk."""
    session = Session(position=Position(1, 3))
    opened(session, position="1:3", acked=4, head=5)
    session.on_frame(1, event_frame(4), 0.0)
    session.on_frame(1, event_frame(5), 0.0)
    first = session.take()
    session.finish(0.0)
    second = session.take()
    assert isinstance(first, Delivery)
    assert isinstance(second, Delivery)
    assert (first.redelivered, second.redelivered) == (True, False)


@pytest.mark.parametrize(("at_most_once", "kind"), [(False, Delivery), (True, Skipped)])
def test_what_the_last_run_had_begun_is_redelivered_or_skipped(at_most_once: bool, kind: type) -> None:
    mark = InProgress(Position(1, 4), fingerprint(event("e4")))
    session = Session(position=Position(1, 3), begun=[mark], at_most_once=at_most_once)
    opened(session, position="1:3", acked=3, head=5)
    session.on_frame(1, event_frame(4), 0.0)
    session.on_frame(1, event_frame(5), 0.0)
    first = session.take()
    assert isinstance(first, kind)
    assert getattr(first, "redelivered", True)
    session.finish(0.0)
    second = session.take()
    assert isinstance(second, Delivery)
    assert not second.redelivered


def test_a_start_elsewhere_without_a_reset_is_not_believed() -> None:
    session = Session(position=Position(1, 3))
    session.on_open(1, 0.0)
    assert session.on_frame(1, welcome("1:5", acked=3, head=9), 0.0) == []
    assert not session.live
    (close,) = session.on_frame(1, event_frame(6), 0.0)
    assert isinstance(close, CloseLink)
    session.on_open(2, 0.0)
    session.on_frame(2, welcome("2:0", head=9), 0.0)
    (close,) = session.on_tick(4.0)[-1:]
    assert close == CloseLink(2, 1002, "accepted and silent", abort=True)
    assert session.on_tick(5.0) == [], "said once"


def test_a_reset_is_taken_in_order_and_only_then_acked() -> None:
    session = Session(position=Position(1, 3))
    session.on_open(1, 0.0)
    session.on_frame(1, welcome("1:8", acked=3, head=9), 0.0)
    assert session.on_frame(1, reset_frame("1:8"), 0.0) == [Live(1, 2.0)]
    session.on_frame(1, event_frame(9), 0.0)
    assert session.flush(0.0) == []
    assert session.take() == ResetSaid(Position(1, 8), "retention")
    session.finish(0.0)
    assert session.flush(0.0) == [SendAck(1, 8)]
    assert taken(session) == [9]


def test_a_client_without_a_position_is_told_of_a_reset_too() -> None:
    session = Session()
    opened(session, position="1:8", acked=2, head=9)
    session.on_frame(1, reset_frame("1:8"), 0.0)
    assert session.flush(0.0) == [], "nothing is acked before the application knows"
    assert session.take() == ResetSaid(Position(1, 8), "retention")


def test_a_reset_said_by_two_transports_is_given_once() -> None:
    session = Session(position=Position(1, 3))
    session.on_rest_reset(Position(1, 8), "retention", 0.0)
    session.on_open(1, 0.0)
    session.on_frame(1, welcome("1:8", acked=3, head=9), 0.0)
    session.on_frame(1, reset_frame("1:8"), 0.0)
    assert taken(session) == [8]


def test_a_raised_epoch_drops_what_was_received_and_recognises_what_was_finished() -> None:
    session = Session()
    opened(session, head=4)
    for seq in (1, 2, 3, 4):
        session.on_frame(1, event_frame(seq), 0.0)
    session.take()
    session.finish(0.0)
    session.take()  # 2 is in the application's hands
    session.on_closed(1, 4102, "epoch raised")
    session.on_open(2, 0.0)
    session.on_frame(2, welcome("2:0", acked=0, head=3), 0.0)
    session.on_frame(2, reset_frame("2:0", "epoch"), 0.0)
    for seq, uid in ((1, "e1"), (2, "e2"), (3, "new")):
        session.on_frame(2, event_frame(seq, uid), 0.0)
    assert session.finish(0.0) == [], "finished in the old epoch: nothing to ack in the new one"
    assert isinstance(session.take(), ResetSaid)
    session.finish(0.0)
    for seq in (1, 2):
        repeat = session.take()
        assert isinstance(repeat, Repeat)
        assert repeat.position == Position(2, seq)
        session.finish(0.0)
    new = session.take()
    assert isinstance(new, Delivery)
    assert (new.position, new.redelivered) == (Position(2, 3), False)


def test_an_older_socket_adds_nothing_to_a_new_epoch() -> None:
    """The page of another transport told of the new epoch while events of the old one are still on their way."""
    session = Session()
    opened(session)
    session.on_frame(1, event_frame(1), 0.0)
    assert taken(session) == [1]
    session.on_rest_reset(Position(2, 0), "epoch", 0.0)
    assert session.on_frame(1, event_frame(1, "old"), 0.0) == []
    assert taken(session) == [0], "the reset, and nothing else"
    assert session.flush(0.0) == [], "an ack of the new epoch has no business on the old socket"


def test_a_late_page_of_an_old_epoch_adds_nothing() -> None:
    session = Session(position=Position(1, 4))
    late = EventsPage(Position(1, 5), 5, False, [PageEvent(5, event("old"), 10)])
    session.on_open(1, 0.0)
    session.on_frame(1, welcome("2:4", acked=4, head=9), 0.0)
    session.on_frame(1, reset_frame("2:4", "epoch"), 0.0)
    session.on_events_page(late, 0.0)
    assert taken(session) == [4]
    assert session.received == Position(2, 4)


def test_what_was_begun_is_said_even_when_its_log_was_lost_meanwhile() -> None:
    session = Session()
    opened(session, head=1)
    session.on_frame(1, event_frame(1), 0.0)
    session.take()
    session.give_back(begun=True)
    session.on_closed(1, 4102, "epoch raised")
    session.on_open(2, 0.0)
    session.on_frame(2, welcome("2:0", head=1), 0.0)
    session.on_frame(2, reset_frame("2:0", "epoch"), 0.0)
    session.on_frame(2, event_frame(1), 0.0)
    assert isinstance(session.take(), ResetSaid)
    session.finish(0.0)
    again = session.take()
    assert isinstance(again, Delivery)
    assert again.redelivered


def test_a_socket_cut_between_welcome_and_reset_does_not_hide_the_reset() -> None:
    session = Session()
    opened(session, position="1:8", acked=2, head=9)
    assert not session.live
    session.on_closed(1, 1006, "")
    assert session.received == Position(1, 2), "the next socket asks for what was acked, and is told again"


def test_silence_is_asked_about_and_then_believed() -> None:
    session = Session()
    opened(session, heartbeat_s=10.0)
    assert session.next_tick() == 10.9
    assert session.on_tick(10.8) == []
    assert session.on_tick(10.9) == [Ping(1)]
    session.on_bytes(1, 12.0)
    assert session.on_tick(23.0) == [Ping(1)]
    assert session.on_tick(26.5) == [CloseLink(1, 1002, "half-open: nothing heard", abort=True)]
    assert session.next_tick() is None


def test_silence_says_nothing_while_we_do_not_read() -> None:
    session = Session(max_events=2)
    opened(session, heartbeat_s=10.0)
    session.on_frame(1, event_frame(1), 0.0)
    session.on_frame(1, event_frame(2), 0.0)
    assert session.room == 0
    assert [action for action in session.on_tick(100.0) if isinstance(action, CloseLink | Ping)] == []
    taken(session, 100.0)
    assert session.room == 2
    assert session.next_tick() is not None
    assert [action for action in session.on_tick(110.8) if isinstance(action, CloseLink | Ping)] == []


def test_a_long_body_repeats_the_last_ack() -> None:
    session = Session()
    opened(session, heartbeat_s=0.0, position="1:4", acked=4)
    session.on_frame(1, event_frame(5), 0.0)
    session.take()
    assert session.on_tick(14.9) == []
    assert session.on_tick(15.0) == [SendAck(1, 4)]
    assert session.on_tick(15.1) == []
    assert session.on_tick(30.0) == [SendAck(1, 4)]


def test_by_rest_one_ack_is_under_way_and_a_failed_one_waits() -> None:
    session = Session()
    session.use_rest(True)
    session.on_events_page(
        EventsPage(Position(1, 40), 40, False, [PageEvent(seq, event(f"e{seq}"), 10) for seq in range(1, 41)]), 0.0
    )
    actions: list[Action] = []
    for _ in range(40):
        session.take()
        actions += session.finish(0.0)
    assert actions == [PostAck(Position(1, 16))]
    assert session.on_ack_posted(None, 1.0) == []
    assert session.on_tick(2.9) == []
    assert session.on_tick(3.0) == [PostAck(Position(1, 40))]
    assert session.on_ack_posted(Position(1, 40), 3.1) == []
    assert session.next_tick() is None


def test_an_ack_that_went_down_with_its_socket_is_sent_again_by_rest() -> None:
    session = Session()
    opened(session)
    session.on_frame(1, event_frame(1), 0.0)
    session.take()
    session.finish(0.0)
    assert session.on_tick(0.5) == [SendAck(1, 1)]
    session.on_closed(1, 1006, "")
    session.use_rest(True)
    session.on_tick(1.0)
    assert session.on_tick(1.5) == [PostAck(Position(1, 1))]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"type":"event","seq":"x","event":{}}', '{"type":"event","seq":1}', b"\xff"]
)
def test_an_unreadable_frame_closes_the_socket(text: str | bytes) -> None:
    session = Session()
    opened(session)
    (close,) = session.on_frame(1, text, 0.0)
    assert isinstance(close, CloseLink)
    assert close.code == 1002


def test_a_frame_of_an_unknown_type_is_ignored() -> None:
    session = Session()
    opened(session)
    assert session.on_frame(1, '{"type":"weather","rain":true}', 0.0) == []
    assert session.live


def test_events_before_the_welcome_are_not_taken() -> None:
    session = Session()
    session.on_open(1, 0.0)
    (close,) = session.on_frame(1, event_frame(1), 0.0)
    assert isinstance(close, CloseLink)
    assert session.take() is None


def test_notices_are_said_once() -> None:
    session = Session()
    opened(session)
    notice = '{"type":"notice","id":"n1","data":{"text":"hi"}}'
    assert session.on_frame(1, notice, 0.0) == [NoticeSaid("n1", {"text": "hi"})]
    assert session.on_frame(1, notice, 0.0) == []


def test_a_notice_is_said_once_over_all_sockets_and_its_memory_is_bounded() -> None:
    session = Session()
    opened(session, 1)
    session.on_open(2, 0.0)
    said = [session.on_frame(1, notice(number), 0.0) for number in range(300)]
    assert all(len(actions) == 1 for actions in said)
    session.on_frame(2, welcome(), 0.0)
    assert session.on_frame(2, notice(299), 0.0) == []
    assert session.on_frame(2, notice(300), 0.0) == [NoticeSaid("n300", {})]
    assert len(session._notices) == 256


def notice(number: int) -> str:
    return json.dumps({"type": "notice", "id": f"n{number}", "data": {}})


def test_moved_names_the_place_and_the_time() -> None:
    session = Session()
    opened(session)
    frame = '{"type":"moved","url":"ws://h2","after_ms":1500,"reason":"rebalance"}'
    assert session.on_frame(1, frame, 0.0) == [MoveTo(1, "ws://h2", 1.5)]


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (1006, Return.AFTER_BACKOFF),
        (1009, Return.NEVER),
        (4001, Return.NOW),
        (4100, Return.AFTER_BACKOFF),
        (4200, Return.WITH_NEW_TOKEN),
        (4300, Return.NEVER),
    ],
)
def test_a_close_code_says_how_to_come_back(code: int, how: Return) -> None:
    session = Session()
    opened(session)
    assert session.on_closed(1, code, "why") == [Gone(1, how, code, "why", was_live=True)]


def test_a_lost_position_marks_what_may_have_been_given() -> None:
    session = Session(position_lost=True)
    opened(session, position="1:2", acked=2, head=3)
    session.on_frame(1, event_frame(3), 0.0)
    session.on_frame(1, event_frame(4), 0.0)
    flags = []
    while isinstance(one := session.take(), Delivery):
        flags.append(one.redelivered)
        session.finish(0.0)
    assert flags == [True, False]


# -- the promise, under every interleaving


@dataclass
class _Socket:
    number: int
    epoch: int
    sent: int
    live: bool = False
    frames: deque[str] = field(default_factory=deque)


class Interleavings(RuleBasedStateMachine):
    """A log that is appended, trimmed and lost; sockets, pages and acks that arrive late or never; an application that
    crashes in the body, and a device that restarts. Each event has a name of its own, so the truth is known."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.epoch = 1
        self.log: list[str] = []
        self.floor = 0
        self.acked = 0
        self.published = 0
        self.sockets: list[_Socket] = []
        self.trying: tuple[int, Position | None] | None = None  # a try under way, and what it asked for
        self.word: str | None = None  # what was last said of being connected
        self.closing: set[int] = set()  # what the session has given up
        self.number = 0
        self.pages: list[EventsPage | ResetSaid] = []
        self.session = Session()
        self.saved_position: Position | None = None
        self.saved_seen: list[SeenEvent] = []
        self.saved_begun = Begun()
        self.in_hand: Delivery | None = None
        self.finished: list[str] = []
        self.begun: set[str] = set()
        self.said: list[Position] = []
        self.said_acked: dict[int, int] = {}  # what the server said it holds, by epoch: it may be repeated to it
        self.named: dict[Position, str] = {}  # every event there ever was, by its position

    # the server

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.published += 1
            self.log.append(f"u{self.published}")
        self.name()

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        self.floor = data.draw(st.integers(self.floor, len(self.log)))

    @rule(data=st.data(), again=st.integers(0, 4))
    def lose_the_end(self, data: st.DataObject, again: int) -> None:
        """Restored from an older copy; other events take the numbers of the lost ones."""
        self.log = self.log[: data.draw(st.integers(self.floor, len(self.log)))]
        self.acked = data.draw(st.integers(0, min(self.acked, len(self.log))))
        self.epoch += 1
        self.name()
        self.publish(again)

    def name(self) -> None:
        for seq, uid in enumerate(self.log, start=1):
            self.named[Position(self.epoch, seq)] = uid

    def resume(self, after: Position | None) -> tuple[int, str | None]:
        if after is None:
            return (self.acked, None) if self.acked >= self.floor else (self.floor, "retention")
        if after.epoch != self.epoch or after.seq > len(self.log):
            return max(self.acked, self.floor), "epoch"
        return (after.seq, None) if after.seq >= self.floor else (self.floor, "retention")

    def ack(self, position: Position) -> None:
        for seq in range(1, position.seq + 1):
            uid = self.named.get(Position(position.epoch, seq))
            excused = any(said.epoch == position.epoch and seq <= said.seq for said in self.said)
            known = seq <= self.said_acked.get(position.epoch, 0)
            assert uid in self.finished or excused or known, f"{position.epoch}:{seq} is acked and was not finished"
        if position.epoch == self.epoch:
            assert position.seq <= len(self.log), "an ack above the head"
            self.acked = max(self.acked, position.seq)

    # the network

    @precondition(lambda self: self.trying is None)
    @rule()
    def a_try_begins(self) -> None:
        """What it asks for is soon old: other transports go on meanwhile."""
        self.number += 1
        self.trying = self.number, self.session.received
        self.session.on_try(self.number)

    @precondition(lambda self: self.trying is not None)
    @rule()
    def the_try_fails(self) -> None:
        assert self.trying is not None
        (number, _), self.trying = self.trying, None
        self.perform(self.session.on_try_failed(number))

    @precondition(lambda self: len(self.sockets) < 3)
    @rule(
        says_old_position=st.booleans(),
        says_reset=st.sampled_from([True, True, True, False]),
        pushed=st.integers(0, 4),
        arrived=st.integers(0, 7),
    )
    def connect(self, says_old_position: bool, says_reset: bool = True, pushed: int = 0, arrived: int = 0) -> None:
        """A hub may name the position asked for, or where it starts, in its welcome; a faulty one forgets the reset."""
        if self.trying is None:
            self.a_try_begins()
        assert self.trying is not None
        (number, asked), self.trying = self.trying, None
        self.said_acked[self.epoch] = max(self.said_acked.get(self.epoch, 0), self.acked)
        start, reason = self.resume(asked)
        socket = _Socket(number, self.epoch, start)
        echoes = says_old_position and asked is not None and asked.epoch == self.epoch and reason is not None
        position = f"{self.epoch}:{start}" if not echoes else str(asked)
        socket.frames.append(welcome(position, acked=self.acked, head=len(self.log), ack_every=2))
        if reason is not None and says_reset:
            socket.frames.append(reset_frame(f"{self.epoch}:{start}", reason))
        self.sockets.append(socket)
        self.session.on_open(number, self.now)
        self.push(socket, 0, pushed)
        self.arrive(socket, arrived)

    @precondition(lambda self: self.sockets)
    @rule(
        data=st.data(), fault=st.sampled_from([0, 0, 0, 0, 0, 1]), pushed=st.integers(0, 4), arrived=st.integers(0, 7)
    )
    def flow(self, data: st.DataObject, fault: int, pushed: int, arrived: int) -> None:
        """The hub writes events, some frames arrive; a faulty hub leaves an event out."""
        socket = data.draw(st.sampled_from(self.sockets))
        self.push(socket, fault, pushed)
        self.arrive(socket, arrived)

    def push(self, socket: _Socket, fault: int, count: int) -> None:
        socket.sent += fault
        for _ in range(count):
            if socket.epoch == self.epoch and self.floor <= socket.sent < len(self.log):
                socket.sent += 1
                socket.frames.append(event_frame(socket.sent, self.log[socket.sent - 1]))

    def arrive(self, socket: _Socket, count: int) -> None:
        for _ in range(min(count, len(socket.frames))):
            if socket in self.sockets:
                self.perform(self.session.on_frame(socket.number, socket.frames.popleft(), self.now))

    @precondition(lambda self: self.sockets)
    @rule(data=st.data(), code=st.sampled_from([1006, 4000, 4001, 4002, 4102, 4300]))
    def cut(self, data: st.DataObject, code: int) -> None:
        self.close(data.draw(st.sampled_from(self.sockets)), code)

    def close(self, socket: _Socket, code: int) -> None:
        self.sockets.remove(socket)
        self.perform(self.session.on_closed(socket.number, code, ""))

    @precondition(lambda self: len(self.pages) < 3)
    @rule(limit=st.integers(1, 4), at_once=st.booleans())
    def ask_for_a_page(self, limit: int, at_once: bool) -> None:
        self.pages.append(self.page(limit))
        if at_once:
            self.page_arrives()

    def page(self, limit: int) -> EventsPage | ResetSaid:
        start, reason = self.resume(self.session.received)
        if reason is not None:
            return ResetSaid(Position(self.epoch, start), reason)
        end = min(start + limit, len(self.log))
        events = [PageEvent(seq, event(self.log[seq - 1]), 10) for seq in range(start + 1, end + 1)]
        return EventsPage(Position(self.epoch, end), len(self.log), end < len(self.log), events)

    @precondition(lambda self: self.pages)
    @rule()
    def page_arrives(self) -> None:
        page = self.pages.pop(0)
        if isinstance(page, ResetSaid):
            # The client has one request under way, and none beside a live socket: a reset is never an old one.
            fresh = self.session.received is None or page.position >= self.session.received
            if fresh:
                self.perform(self.session.on_rest_reset(page.position, page.reason, self.now))
        else:
            self.perform(self.session.on_events_page(page, self.now))

    @rule(seconds=st.sampled_from([0.6, 3.0, 20.0]), rest=st.booleans())
    def time_passes(self, seconds: float, rest: bool) -> None:
        self.session.use_rest(rest)
        self.now += seconds
        self.perform(self.session.on_tick(self.now))

    def perform(self, actions: list[Action]) -> None:
        self.closing |= {action.link for action in actions if isinstance(action, CloseLink)}
        for action in actions:
            match action:
                case Live(number):
                    self.word = "live"
                    for one in self.sockets:
                        one.live = one.live or one.number == number
                case Gone(pending=pending):
                    assert self.word != "gone" or not pending, "what is over does not become uncertain"
                    others = [one for one in self.sockets if not one.live and one.number not in self.closing]
                    on_the_way = self.trying is not None or bool(others)
                    assert pending == on_the_way, "over only when nothing is on its way"
                    self.word = "pending" if pending else "gone"
                case SendAck(number, seq):
                    assert number == max(link.number for link in self.sockets if link.number == number or link.live)
                    socket = next((socket for socket in self.sockets if socket.number == number), None)
                    if socket is not None:
                        self.ack(Position(socket.epoch, seq))
                case PostAck(position):
                    self.ack(position)
                    held = Position(self.epoch, self.acked) if position.epoch == self.epoch else None
                    self.perform(self.session.on_ack_posted(held, self.now))
                case CloseLink(number):
                    for socket in [socket for socket in self.sockets if socket.number == number]:
                        self.close(socket, 1006)

    @invariant()
    def being_connected_is_said_truly(self) -> None:
        if self.session.live:
            assert self.word == "live"
        elif not self.sockets and self.trying is None:
            assert self.word in ("gone", None), "nothing lives and nothing is on its way"

    # the application

    @precondition(lambda self: self.in_hand is None)
    @rule(count=st.integers(1, 4))
    def application_works(self, count: int) -> None:
        """Some bodies run to their end, the last one only begins."""
        for _ in range(count):
            if self.in_hand is not None:
                self.body_ends()
            self.next_event()

    def next_event(self) -> None:
        one = self.session.take()
        match one:
            case None:
                return
            case Delivery():
                uid = one.event["id"]
                assert self.named[one.position] == uid, f"{uid} was given as {one.position}"
                assert uid not in self.finished, f"{uid} was given again after it was finished"
                assert one.redelivered or uid not in self.begun, f"{uid} was given again without saying so"
                self.begun.add(uid)
                self.saved_begun.add(InProgress(one.position, one.fingerprint))
                self.in_hand = one
                return
            case Repeat():
                uid = next(uid for uid in self.finished if fingerprint(event(uid)) == one.fingerprint)
                assert uid in self.finished
                self.record(one.position, one.fingerprint)
            case ResetSaid():
                self.said.append(one.position)
                self.saved_position = one.position
            case Skipped():
                raise AssertionError("nothing is skipped unless that was asked for")
        self.perform(self.session.finish(self.now))

    def record(self, position: Position, mark: str) -> None:
        self.saved_position = position
        self.saved_begun.end(mark)
        self.saved_seen.append(SeenEvent(position.epoch, mark))

    @precondition(lambda self: self.in_hand is not None)
    @rule()
    def body_ends(self) -> None:
        one, self.in_hand = self.in_hand, None
        assert one is not None
        self.record(one.position, one.fingerprint)
        self.finished.append(one.event["id"])
        self.perform(self.session.finish(self.now))

    @precondition(lambda self: self.in_hand is not None)
    @rule()
    def body_raises(self) -> None:
        self.in_hand = None
        self.session.give_back(begun=True)

    @rule()
    def device_restarts(self) -> None:
        self.sockets.clear()
        self.pages.clear()
        self.trying = self.word = self.in_hand = None
        self.session = Session(position=self.saved_position, seen=list(self.saved_seen), begun=list(self.saved_begun))

    @initialize()
    def begin(self) -> None:
        self.publish(3)

    def teardown(self) -> None:
        """In quiet times everything that is left arrives, and nothing is missing that was not said to be."""
        for socket in list(self.sockets):
            self.close(socket, 1006)
        self.pages.clear()
        if self.trying is not None:
            self.the_try_fails()
        assert self.word in ("gone", None)
        self.connect(says_old_position=False)
        (socket,) = self.sockets
        socket_seen = -1
        while socket.frames or socket.sent < len(self.log):
            assert socket.sent > socket_seen or socket.frames
            socket_seen = socket.sent
            self.push_all(socket)
            while socket.frames:
                self.perform(self.session.on_frame(socket.number, socket.frames.popleft(), self.now))
                assert socket in self.sockets, "a healthy hub is not left"
        if self.in_hand is not None:
            self.body_ends()
        while self.session.waiting:
            self.next_event()
            if self.in_hand is not None:
                self.body_ends()
        for seq, uid in enumerate(self.log, start=1):
            excused = any(said.epoch == self.epoch and seq <= said.seq for said in self.said)
            assert uid in self.finished or excused, f"{uid} at {self.epoch}:{seq} was skipped in silence"
        assert len(self.finished) == len(set(self.finished))
        self.now += 1.0
        self.perform(self.session.on_tick(self.now))
        self.now += 1.0
        self.perform(self.session.on_tick(self.now))
        assert self.session.done == Position(self.epoch, len(self.log))
        assert self.acked == len(self.log), "all that is finished is acked"

    def push_all(self, socket: _Socket) -> None:
        while socket.sent < len(self.log):
            socket.sent += 1
            socket.frames.append(event_frame(socket.sent, self.log[socket.sent - 1]))


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=200,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
