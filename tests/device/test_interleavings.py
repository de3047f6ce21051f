"""The promise, under every interleaving: sockets, tries, pages, acks, crashes and lost logs in any order."""

from collections import deque
from dataclasses import dataclass, field

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
    PageEvent,
    PostAck,
    Repeat,
    ResetSaid,
    SendAck,
    Skipped,
)
from device.seen import Begun, InProgress, SeenEvent, fingerprint
from device.session import Session
from shared.protocol.position import Position
from tests.device.frames import event, event_frame, reset_frame, welcome


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
