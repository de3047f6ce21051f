"""What has been received, given to the application, finished and acked, over any number of sockets and REST pages.

A pure state machine: frames, pages, ticks and closes go in with the time, actions come out, and whoever drives it
performs them. It promises the application each event once and in order: an event is accepted only when it is the one
after the last accepted, from whichever transport it comes, so two sockets and a long-poll may overlap without a repeat
or a hole. It never asks for an ack above what the application has finished.
Example: accepted up to 7; socket A brings 8, the REST page brings 7 8 9, socket B brings 9. Accepted: 8 (A), 9 (page).

The application side pulls: `take()` gives the next thing, `finish()` says that it is done with. `finish()` of an event
moves `done`; only `done` is acked.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from device.acking import Acking
from device.actions import (
    Action,
    Delivery,
    EventsPage,
    Live,
    MoveTo,
    NoticeSaid,
    ResetSaid,
    Said,
    Synced,
    Taken,
    TokenHeld,
)
from device.history import History
from device.inbox import Inbox, Item
from device.liveness import Patience, Socket
from device.notices import Notices
from device.seen import InProgress, SeenEvent, fingerprint
from device.sockets import Sockets
from shared.protocol.frames import (
    ErrorFrame,
    Event,
    FrameError,
    Moved,
    Notice,
    Reset,
    SyncResult,
    TokenOk,
    Welcome,
    decode_hub_frame,
)
from shared.protocol.position import InvalidPosition, Position, parse_position

__all__ = ["Session"]

_AFTER_MAX_MS: Final = 3_600_000


@dataclass(slots=True)
class _Counts:
    received: int = 0
    repeats: int = 0
    gaps: int = 0
    resets: int = 0
    strays: int = 0  # frames of another epoch or before welcome


@dataclass
class Session:
    """One run of one device's client."""

    position: Position | None = None
    seen: Iterable[SeenEvent] = ()
    begun: Iterable[InProgress] = ()
    position_lost: bool = False
    at_most_once: bool = False
    max_events: int = 512
    max_bytes: int = 4 * 1024 * 1024
    patience: Patience = field(default_factory=Patience)
    counts: _Counts = field(default_factory=_Counts)

    def __post_init__(self) -> None:
        self.received: Position | None = self.position
        self.head: int = 0
        self._inbox = Inbox(self.max_events, self.max_bytes)
        self._links = Sockets(self.patience)
        self._acking = Acking(self._links, self._inbox, self.position)
        self._history = History(self.seen, self.begun, at_most_once=self.at_most_once, holds=self._acking.holds)
        self._notices = Notices()

    # -- the application's side

    def take(self) -> Taken | None:
        """The next thing for the application, if there is one; `finish()` or `give_back()` before the next `take()`."""
        item = self._inbox.take()
        if item is None:
            return None
        return item.content if isinstance(item.content, ResetSaid) else self._history.judge(item.content)

    def finish(self, now: float) -> list[Action]:
        """The application is done with what it took, and that is recorded."""
        item = self._inbox.let_go()
        taken = item.content
        if isinstance(taken, Delivery):
            self._history.finished(taken)
        self._acking.finished(taken.position, item.size, self.received, now)
        return self._acks(now)

    def give_back(self, *, begun: bool) -> None:
        """What was taken comes again at the next `take()`; `begun` if the application's body saw it."""
        item = self._inbox.let_go()
        taken = item.content
        if begun and isinstance(taken, Delivery):
            taken = self._history.given_back(taken)
        self._inbox.put_back(Item(taken, item.size))

    @property
    def done(self) -> Position | None:
        """Up to where the application has finished."""
        return self._acking.done

    @property
    def waiting(self) -> int:
        """How many things wait to be taken."""
        return self._inbox.waiting

    @property
    def room(self) -> int:
        """How many more events may be received now; 0: stop reading until the application takes some."""
        return self._inbox.room

    # -- sockets

    @property
    def live(self) -> bool:
        """Whether events flow over a socket."""
        return self._links.live

    @property
    def newest(self) -> int | None:
        """The newest socket over which events flow."""
        return self._links.newest

    def reads(self, number: int) -> bool:
        """Whether to read on from this socket: until it is live always, then as long as there is room."""
        link = self._links.get(number)
        return link is None or not link.live or self.room > 0

    def on_try(self, number: int) -> None:
        """A try for a socket begins. Until it is decided, a socket that closes may be on the way of being replaced."""
        self._links.begin(number)

    def on_try_failed(self, number: int) -> list[Action]:
        """The try came to nothing; no socket was opened."""
        return self._links.fail(number)

    def on_open(self, number: int, now: float) -> None:
        """A socket is open that was asked for with `after=received`. Numbers rise: a higher one is newer."""
        self._links.open(number, now)

    def on_bytes(self, number: int, now: float) -> None:
        """Something came in on this socket, a whole frame or not: the peer is there."""
        if link := self._links.get(number):
            link.heard(now)

    def on_frame(self, number: int, data: str | bytes, now: float) -> list[Action]:
        """One text frame from the hub."""
        link = self._links.get(number)
        if link is None or link.closing:
            self.counts.strays += 1
            return []
        self.on_bytes(number, now)
        try:
            frame = decode_hub_frame(data)
            if link.welcome is None:
                if isinstance(frame, Welcome):
                    return self._on_welcome(link, frame, now)
                self.counts.strays += 1
                return [link.close("the first frame is not welcome")]
            if isinstance(frame, Event):
                return self._on_event(link, frame, len(data))
            if isinstance(frame, Reset):
                return self._on_reset_frame(link, link.welcome, frame, now)
        except (FrameError, InvalidPosition) as error:
            return [link.close(f"unreadable frame: {error}")]
        if isinstance(frame, Moved):
            return [MoveTo(number, frame.url, min(max(0, frame.after_ms), _AFTER_MAX_MS) / 1000)]
        if isinstance(frame, Notice):
            return [NoticeSaid(frame.id, frame.data)] if self._notices.is_new(frame.id) else []
        if isinstance(frame, TokenOk):
            return [TokenHeld(number, frame.expires_at)]
        if isinstance(frame, ErrorFrame):
            return [Said(number, frame.code, frame.detail, frame.ref)]
        if isinstance(frame, SyncResult):
            return [Synced(number, frame.ref, frame.results)]
        return []  # a type this client does not know or did not ask for

    def on_closed(self, number: int, code: int, reason: str) -> list[Action]:
        """This socket is closed, with the code the hub gave, or 1006."""
        return self._links.close(number, code, reason)

    # -- REST

    def use_rest(self, on: bool) -> None:
        """Whether acks may go by REST while no socket is live."""
        self._acking.use_rest(on)

    def on_events_page(self, page: EventsPage, now: float) -> list[Action]:
        """One page that was asked for with `after=received`."""
        self.head = page.head
        if self.received is None:
            start = page.events[0].seq - 1 if page.events else page.position.seq
            self._start_at(Position(page.position.epoch, start), page.head)
        received = self._known
        if page.position.epoch != received.epoch:
            self.counts.strays += 1  # the epoch changed under way; the next request is answered by a reset
            return []
        for event in page.events:
            if not self._accept(event.seq, event.event, event.size) and event.seq > self._known.seq:
                self.counts.gaps += 1
                break
        return self._acks(now)

    def on_rest_reset(self, position: Position, reason: str, now: float) -> list[Action]:
        """The events endpoint answered 410."""
        self._reset(position, reason)
        return self._acks(now)

    def on_ack_posted(self, position: Position | None, now: float, wish_s: float = 0.0) -> list[Action]:
        """The answer to `PostAck`: what the server holds now, or None when the try failed; it is not made again before
        `wish_s` seconds are over."""
        self._acking.on_posted(position, now, wish_s)
        return [] if position is None else self._acks(now)

    # -- time

    def on_tick(self, now: float) -> list[Action]:
        """Time has passed; call it at `next_tick()` at the latest."""
        actions: list[Action] = []
        for link in self._links:
            actions += link.on_tick(now, reading=self.room > 0, unfinished=self._inbox.unfinished)
        return [*actions, *self._acks(now)]

    def next_tick(self) -> float | None:
        """When `on_tick` has something to do at the latest, or None."""
        ticks = [link.next_tick(unfinished=self._inbox.unfinished) for link in self._links]
        times = [at for at in ticks if at is not None]
        if (ack_at := self._acking.due_at(self.received, self.head)) is not None:
            times.append(ack_at)
        return min(times, default=None)

    def flush(self, now: float) -> list[Action]:
        """Ack what is finished at once: the client is about to end."""
        return self._acks(now, at_once=True)

    def __repr__(self) -> str:
        in_hand = self._inbox.in_hand.content.position if self._inbox.in_hand else None
        places = f"done={self.done}, in_hand={in_hand}, waiting={self.waiting}, received={self.received}"
        return f"Session({places}, {self._links})"

    # -- inside

    @property
    def _known(self) -> Position:
        if self.received is None:
            raise AssertionError("a position is known from the first welcome or page on")
        return self.received

    def _start_at(self, position: Position, head: int) -> None:
        """A client without a position begins after what was acked.

        If the server starts it higher, only a reset may say so: believed from the welcome alone, the hole would be
        forgotten when the socket is cut between the two frames.
        """
        self.received = position
        self._acking.begin_at(position)
        if self.position_lost:
            self._history.lost_up_to(Position(position.epoch, head))

    def _on_welcome(self, link: Socket, welcome: Welcome, now: float) -> list[Action]:
        start = parse_position(welcome.position)
        link.welcome = welcome
        link.welcomed_at = now
        link.epoch = start.epoch
        link.acked = min(welcome.acked, start.seq)
        self.head = welcome.head
        if self.received is None:
            self._start_at(Position(start.epoch, min(start.seq, welcome.acked)), welcome.head)
        received = self._known
        # To start us at or below what we have is harmless, since repeats are dropped. Anywhere else leaves a hole
        # unless a reset says so.
        link.reset_due = start.epoch != received.epoch or start.seq > received.seq
        self._acking.on_welcome(welcome, Position(start.epoch, welcome.acked))
        if link.reset_due:
            return []
        return [*self._go_live(link, welcome), *self._acking.first(link, received, self.head, now)]

    def _go_live(self, link: Socket, welcome: Welcome) -> list[Action]:
        return [Live(link.number, max(0.0, welcome.jitter_s)), *self._links.go_live(link)]

    def _on_event(self, link: Socket, frame: Event, size: int) -> list[Action]:
        received = self._known
        if link.reset_due:
            return [link.close("welcome starts elsewhere and no reset says so")]
        if link.epoch != received.epoch:
            self.counts.strays += 1  # an older socket, while another one was told of a new epoch
            return []
        self.head = max(self.head, frame.seq)
        if not self._accept(frame.seq, frame.event, size) and frame.seq > received.seq:
            self.counts.gaps += 1
            return [link.close(f"event {frame.seq} after {received.seq}")]
        return []

    def _accept(self, seq: int, event: dict[str, Any], size: int) -> bool:
        received = self._known
        if seq != received.seq + 1:
            self.counts.repeats += seq <= received.seq
            return False
        self.received = position = Position(received.epoch, seq)
        self.counts.received += 1
        self._inbox.put(Delivery(position, event, fingerprint(event), redelivered=False), size)
        return True

    def _on_reset_frame(self, link: Socket, welcome: Welcome, frame: Reset, now: float) -> list[Action]:
        position = parse_position(frame.position)
        if position.epoch != link.epoch:
            link.epoch = position.epoch
            link.acked = position.seq
            self._acking.on_held(position)
        self._reset(position, frame.reason)
        if link.live:
            return self._acks(now)
        return [*self._go_live(link, welcome), *self._acking.first(link, self.received, self.head, now)]

    def _reset(self, position: Position, reason: str) -> None:
        received = self.received
        if received is not None and position.epoch == received.epoch:
            if position.seq <= received.seq:
                return  # what is gone, we have, or another transport has said it
        else:
            # What was received and not given is in the log still, under a number of the new epoch, or lost with it.
            self._inbox.clear()
            self._acking.drop_gathered()
        self.counts.resets += 1
        self.received = position
        self._inbox.put(ResetSaid(position, reason))

    def _acks(self, now: float, *, at_once: bool = False) -> list[Action]:
        return self._acking.due(self.received, self.head, now, at_once=at_once)
