"""A log, a bus that does everything a bus may do, and a device: the world around one session, in memory.

It knows what is true and checks every action of the session against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hub.actions import Actions, End, Hold, ReadLog, RecordAck, Say, SendEvents
from hub.session import Session
from hub.window import WindowLimits
from shared.protocol.close_codes import CloseCode
from shared.store.log import Page, StoredEvent


@dataclass
class PendingRead:
    """A read on its way to the log; `page` once the log has looked."""

    asked: ReadLog
    page: Page | None = None


@dataclass
class PendingSweep:
    """A sweep on its way."""

    known_head: int
    answer: tuple[int, int, int, int, int, str | None] | None = None


@dataclass
class World:
    """Everything a session may meet. Bodies are `seq` as text, padded to a size."""

    limits: WindowLimits
    start: int = 0
    epoch: int = 1
    floor: int = 0
    cursor: int = 0
    term: int = 1
    instance: str = "a"
    bodies: list[bytes] = field(default_factory=list)
    bus: list[tuple[int, int, bytes]] = field(default_factory=list)

    received: list[int] = field(default_factory=list)
    known_to_device: int = 0
    acked: int = 0
    believed: int = 0
    acked_at_open: int = 0
    ended: End | None = None
    errors: list[str] = field(default_factory=list)
    read: PendingRead | None = None
    sweep: PendingSweep | None = None
    holds: int = 0
    in_flight: dict[int, int] = field(default_factory=dict)
    reads: int = 0

    def open(self, heard: int = 0) -> None:
        """The device connects: greeting, session, first actions."""
        self.known_to_device = self.acked = self.believed = self.start
        self.acked_at_open = self.cursor
        self.session = Session(
            epoch=self.epoch,
            start=self.start,
            head=self.head,
            acked=self.cursor,
            conn_term=self.term,
            instance=self.instance,
            limits=self.limits,
            heard=heard,
        )
        self.perform(self.session.on_start())

    @property
    def head(self) -> int:
        """The highest seq recorded."""
        return len(self.bodies)

    def record(self, size: int, *, published: bool = True) -> int:
        """Commit one event; its message may or may not get onto the bus."""
        seq = self.head + 1
        body = b"%d " % seq
        self.bodies.append(body.ljust(size, b"."))
        if published:
            self.bus.append((self.epoch, seq, self.bodies[-1]))
        return seq

    def deliver(self, number: int, *, keep: bool) -> None:
        """The bus brings one of its messages, in any order, and may bring it again."""
        message = self.bus[number] if keep else self.bus.pop(number)
        self.perform(self.session.on_bus(*message))

    def look(self) -> None:
        """The outstanding read takes its snapshot."""
        assert self.read is not None
        asked = self.read.asked
        events: list[StoredEvent] = []
        size = 0
        for seq in range(max(asked.after, self.floor) + 1, self.head + 1):
            body = self.bodies[seq - 1]
            if len(events) >= asked.max_rows or (events and size + len(body) > asked.max_bytes):
                break
            events.append(StoredEvent(seq, body))
            size += len(body)
        self.read.page = Page(self.epoch, self.floor, self.head, self.cursor, events)

    def answer(self) -> None:
        """The page arrives."""
        assert self.read is not None
        if self.read.page is None:
            self.look()
        page = self.read.page
        assert page is not None
        self.read = None
        self.perform(self.session.on_page(page))

    def begin_sweep(self) -> None:
        """The hub says what it knows."""
        self.sweep = PendingSweep(self.session.head)

    def end_sweep(self) -> None:
        """What differs comes back."""
        assert self.sweep is not None
        sweep, self.sweep = self.sweep, None
        self.perform(
            self.session.on_swept(
                epoch=self.epoch,
                floor=self.floor,
                head=self.head,
                acked=self.cursor,
                conn_term=self.term,
                instance=self.instance,
                known_head=sweep.known_head,
            )
        )

    def hold_over(self) -> None:
        """A hold time passes."""
        self.holds -= 1
        self.perform(self.session.on_hold_over())

    def ack(self, seq: int) -> None:
        """The device acks over the socket."""
        self.acked = max(self.acked, seq)
        if seq <= self.session.head:
            self.believed = max(self.believed, seq)
        for sent in [sent for sent in self.in_flight if sent <= seq]:
            del self.in_flight[sent]
        self.perform(self.session.on_ack(seq))

    def ack_by_rest(self, seq: int) -> None:
        """The device fetched up to `seq` by REST and acked it there."""
        self.cursor = max(self.cursor, seq)
        self.known_to_device = max(self.known_to_device, seq)

    def trim(self, floor: int) -> None:
        """Retention deletes what is acked."""
        self.floor = max(self.floor, min(floor, self.cursor))

    def perform(self, actions: Actions) -> None:
        """Do what the session asks, and judge it."""
        for action in actions:
            match action:
                case SendEvents(events):
                    self._sent(events)
                case Say(frame):
                    self.errors.append(getattr(frame, "code", ""))
                case ReadLog():
                    assert self.read is None, "two reads at once"
                    assert self.ended is None, "a read after the end"
                    self.reads += 1
                    self.read = PendingRead(action)
                case Hold():
                    self.holds += 1
                    assert self.holds <= 3, "holds pile up"
                case RecordAck(seq):
                    assert seq <= self.head, "an ack above the head would be recorded"
                    self.cursor = max(self.cursor, seq)
                case End():
                    assert self.ended is None, "ended twice"
                    self.ended = action
        assert len(self.session._held) <= 64

    def _sent(self, events: Sequence[tuple[int, bytes]]) -> None:
        assert self.ended is None, "an event after the end"
        for seq, body in events:
            before = max(self.received[-1] if self.received else self.start, self._passed())
            assert seq == before + 1, f"{seq} follows {before}"
            assert seq <= self.head, "an event that is not recorded"
            assert body == self.bodies[seq - 1], "another event's body"
            self.received.append(seq)
            self.in_flight = {sent: size for sent, size in self.in_flight.items() if sent > self._passed()}
            self.in_flight[seq] = len(body)
            self.known_to_device = max(self.known_to_device, seq)
            assert len(self.in_flight) <= self.limits.events, "more events than the window"
            if len(self.in_flight) > 1:
                assert sum(self.in_flight.values()) <= self.limits.max_bytes, "more bytes than the window"

    def _passed(self) -> int:
        """What the session knows to be acked, by whatever way, it may pass over: not what was acked before it began,
        and not what an ack above the head that it knew claimed, until the log has said so.
        """
        return self.session.acked if self.session.acked > self.acked_at_open else self.believed

    def settle(self) -> None:
        """The bus loses the rest; the log, sweeps and the device's acks go on until nothing moves."""
        self.bus.clear()
        for _ in range(4 * self.head + 50):
            if self.ended:
                return
            if self.read is not None:
                self.answer()
            elif self.holds:
                self.hold_over()
            elif self.known_to_device > self.acked:
                self.ack(self.known_to_device)
            elif self.sweep is not None:
                self.end_sweep()
            elif self.session.head != self.head or self.session.acked < self.cursor:
                self.begin_sweep()
            else:
                break

    def assert_all_delivered(self) -> None:
        """Everything recorded was sent or is known to the device by REST, in order, or the connection ended for a
        reason.
        """
        if self.ended is not None:
            assert self.ended.code in (CloseCode.HUB_TROUBLE, CloseCode.PROTOCOL_ERROR, CloseCode.REPLACED)
            return
        assert self.session.sent == self.head, f"{self.session!r}, log at {self.head}"
        assert self.session.is_live
        assert self.received == sorted(set(self.received))
