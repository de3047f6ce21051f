"""The session, without any network: single rules by example."""

import json
from typing import Any

import pytest

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
    Said,
    SendAck,
    Skipped,
    Synced,
)
from device.seen import InProgress, fingerprint
from device.session import Session
from shared.protocol.close_codes import Return
from shared.protocol.position import Position
from tests.device.frames import event, event_frame, reset_frame, welcome


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
    assert session.on_ack_posted(None, 3.0, 10.0) == []
    assert session.on_tick(12.9) == []
    assert session.on_tick(13.0) == [PostAck(Position(1, 40))]
    assert session.on_ack_posted(Position(1, 40), 13.1) == []
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


def test_answers_to_batches_of_operations_are_handed_on_with_their_ref() -> None:
    session = Session()
    opened(session)
    result = {"op_id": "a", "status": "applied", "http": 200}
    frame = json.dumps({"type": "sync_result", "ref": "s1", "results": [result]})
    assert session.on_frame(1, frame, 0.0) == [Synced(1, "s1", [result])]
    refused = json.dumps({"type": "error", "code": "busy", "detail": "later", "ref": "s2"})
    assert session.on_frame(1, refused, 0.0) == [Said(1, "busy", "later", "s2")]
