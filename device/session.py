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
from typing import Any, Final, NamedTuple

from device.acks import Gathering
from device.actions import (
    Action,
    Delivery,
    EventsPage,
    Gone,
    Live,
    MoveTo,
    NoticeSaid,
    PostAck,
    Repeat,
    ResetSaid,
    Said,
    SendAck,
    Skipped,
    Taken,
)
from device.inbox import Inbox, Item
from device.liveness import Patience, Socket
from device.seen import Begun, InProgress, Seen, SeenEvent, fingerprint
from shared.protocol.close_codes import CloseCode, how_to_return
from shared.protocol.frames import (
    ErrorFrame,
    Event,
    FrameError,
    Moved,
    Notice,
    Reset,
    Welcome,
    decode_hub_frame,
)
from shared.protocol.position import InvalidPosition, Position, parse_position

__all__ = ["Session"]

_NOTICES_REMEMBERED: Final = 256
_POST_AGAIN_S: Final = 2.0


class _ToAck(NamedTuple):
    position: Position
    link: Socket | None  # None: by REST
    events: int


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
        self.done: Position | None = self.position
        self.received: Position | None = self.position
        self.head: int = 0
        self._seen = Seen(self.seen)
        self._begun = Begun(self.begun)
        self._inbox = Inbox(self.max_events, self.max_bytes)
        self._links: dict[int, Socket] = {}
        self._gathering = Gathering()
        self._confirmed: Position | None = None  # what the server is known to hold
        self._rest = False
        self._posting = False
        self._post_at = float("-inf")  # not before, after a failed try
        self._maybe_had: Position | None = None  # up to here, events may have been given by a run that left no trace
        self._notices: dict[str, None] = {}

    # -- the application's side

    def take(self) -> Taken | None:
        """The next thing for the application, if there is one; `finish()` or `give_back()` before the next `take()`."""
        item = self._inbox.take()
        if item is None or isinstance(item.content, ResetSaid):
            return item.content if item is not None else None
        delivery = item.content
        if self._seen.before(delivery.position.epoch, delivery.fingerprint):
            return Repeat(delivery.position, delivery.fingerprint)
        begun = delivery.redelivered or self._was_begun(delivery)
        if self.at_most_once and begun:
            return Skipped(delivery.position, delivery.event, delivery.fingerprint)
        maybe = self._maybe_had is not None and delivery.position <= self._maybe_had
        if (begun or maybe) and not delivery.redelivered:
            return Delivery(delivery.position, delivery.event, delivery.fingerprint, redelivered=True)
        return delivery

    def finish(self, now: float) -> list[Action]:
        """The application is done with what it took, and that is recorded."""
        item = self._inbox.let_go()
        taken = item.content
        self.done = taken.position
        if isinstance(taken, Delivery):
            self._seen.add(SeenEvent(taken.position.epoch, taken.fingerprint))
            self._begun.end(taken.fingerprint)
        if self._to_ack() is not None:
            self._gathering.add(item.size, now)
        return self._acks(now)

    def give_back(self, *, begun: bool) -> None:
        """What was taken comes again at the next `take()`; `begun` if the application's body saw it."""
        item = self._inbox.let_go()
        taken = item.content
        if begun and isinstance(taken, Delivery):
            taken = Delivery(taken.position, taken.event, taken.fingerprint, redelivered=True)
            # Kept apart as well: a raised epoch empties the inbox, and the event comes again from the log.
            self._begun.add(InProgress(taken.position, taken.fingerprint))
        self._inbox.put_back(Item(taken, item.size))

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
        return any(link.live for link in self._links.values())

    def on_open(self, number: int, now: float) -> None:
        """A socket is open that was asked for with `after=received`. Numbers rise: a higher one is newer."""
        if self._links and number <= max(self._links):
            raise AssertionError("socket numbers rise")
        self._links[number] = Socket(number, self.patience, opened_at=now, heard_at=now, sent_at=now)

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
            return [MoveTo(number, frame.url, max(0.0, frame.after_ms / 1000))]
        if isinstance(frame, Notice):
            return self._on_notice(link, frame)
        if isinstance(frame, ErrorFrame):
            return [Said(number, frame.code, frame.detail)]
        return []  # a type this client does not know or did not ask for

    def on_closed(self, number: int, code: int, reason: str) -> list[Action]:
        """This socket is closed, with the code the hub gave, or 1006."""
        link = self._links.pop(number, None)
        if link is None or self.live:
            # 4002 and the like are only news while no other socket lives.
            return []
        return [Gone(number, how_to_return(code), code, reason, link.went_live)]

    # -- REST

    def use_rest(self, on: bool) -> None:
        """Whether acks may go by REST while no socket is live."""
        self._rest = on

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

    def on_ack_posted(self, position: Position | None, now: float) -> list[Action]:
        """The answer to `PostAck`: what the server holds now, or None when the try failed."""
        self._posting = False
        if position is None:
            self._post_at = now + _POST_AGAIN_S
            return []
        if self._confirmed is None or position > self._confirmed:
            self._confirmed = position
        return self._acks(now)

    # -- time

    def on_tick(self, now: float) -> list[Action]:
        """Time has passed; call it at `next_tick()` at the latest."""
        actions: list[Action] = []
        for link in self._links.values():
            actions += link.on_tick(now, reading=self.room > 0, unfinished=self._inbox.unfinished)
        return [*actions, *self._acks(now)]

    def next_tick(self) -> float | None:
        """When `on_tick` has something to do at the latest, or None."""
        ticks = [link.next_tick(unfinished=self._inbox.unfinished) for link in self._links.values()]
        times = [at for at in ticks if at is not None]
        to_ack = self._to_ack()
        if to_ack is not None:
            times.append(max(self._gathering.due_at, self._post_at) if to_ack.link is None else self._gathering.due_at)
        return min(times, default=None)

    def flush(self, now: float) -> list[Action]:
        """Ack what is finished at once: the client is about to end."""
        return self._acks(now, at_once=True)

    def __repr__(self) -> str:
        in_hand = self._inbox.in_hand.content.position if self._inbox.in_hand else None
        places = f"done={self.done}, in_hand={in_hand}, waiting={self.waiting}, received={self.received}"
        return f"Session({places}, links={sorted(self._links)}, live={self.live})"

    # -- inside

    @property
    def _known(self) -> Position:
        if self.received is None:
            raise AssertionError("a position is known from the first welcome or page on")
        return self.received

    def _was_begun(self, delivery: Delivery) -> bool:
        """Whether the body of this event has begun before: by the mark of the last run, or because the server holds its
        ack."""
        if self._begun.has(delivery.position, delivery.fingerprint):
            return True
        confirmed = self._confirmed
        return confirmed is not None and confirmed.epoch == delivery.position.epoch and delivery.position <= confirmed

    def _start_at(self, position: Position, head: int) -> None:
        """A client without a position begins after what was acked.

        If the server starts it higher, only a reset may say so: believed from the welcome alone, the hole would be
        forgotten when the socket is cut between the two frames.
        """
        self.received = self.done = self._confirmed = position
        if self.position_lost:
            self._maybe_had = Position(position.epoch, head)

    def _on_welcome(self, link: Socket, welcome: Welcome, now: float) -> list[Action]:
        start = parse_position(welcome.position)
        link.welcome = welcome
        link.welcomed_at = now
        link.epoch = start.epoch
        link.acked = min(welcome.acked, start.seq)
        self.head = welcome.head
        self._gathering.every = max(1, welcome.ack_every)
        self._gathering.wait_s = max(0.0, welcome.ack_ms / 1000)
        if self.received is None:
            self._start_at(Position(start.epoch, min(start.seq, welcome.acked)), welcome.head)
        received = self._known
        # To start us at or below what we have is harmless, since repeats are dropped. Anywhere else leaves a hole
        # unless a reset says so.
        link.reset_due = start.epoch != received.epoch or start.seq > received.seq
        self._confirmed = Position(start.epoch, welcome.acked)
        if link.reset_due:
            return []
        return [*self._go_live(link, welcome), *self._first_ack(link, now)]

    def _go_live(self, link: Socket, welcome: Welcome) -> list[Action]:
        link.reset_due = False
        link.went_live = True
        actions: list[Action] = [Live(link.number, max(0.0, welcome.jitter_s))]
        actions += [
            other.close("a newer socket of this client is live", code=CloseCode.NORMAL)
            for other in self._links.values()
            if other.number < link.number and not other.closing
        ]
        return actions

    def _first_ack(self, link: Socket, now: float) -> list[Action]:
        """What was finished and never reached the server goes first, before anything is gathered."""
        if self.done is not None and self.done.epoch == link.epoch and self.done.seq > link.acked:
            return self._acks(now, at_once=True)
        self._gathering.clear()
        return []

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
            self._confirmed = position
        self._reset(position, frame.reason)
        if link.live:
            return self._acks(now)
        return [*self._go_live(link, welcome), *self._first_ack(link, now)]

    def _reset(self, position: Position, reason: str) -> None:
        received = self.received
        if received is not None and position.epoch == received.epoch:
            if position.seq <= received.seq:
                return  # what is gone, we have, or another transport has said it
        else:
            # What was received and not given is in the log still, under a number of the new epoch, or lost with it.
            self._inbox.clear()
            self._gathering.clear()
        self.counts.resets += 1
        self.received = position
        self._inbox.put(ResetSaid(position, reason))

    def _on_notice(self, link: Socket, frame: Notice) -> list[Action]:
        if frame.id in self._notices:
            return []
        self._notices[frame.id] = None
        if len(self._notices) > _NOTICES_REMEMBERED:
            del self._notices[next(iter(self._notices))]
        return [NoticeSaid(frame.id, frame.data)]

    def _to_ack(self) -> _ToAck | None:
        """What is finished and not acked yet, and which way its ack would go; None when there is nothing, or no way."""
        done, received = self.done, self.received
        # After a raised epoch `done` is of the old one until the application has taken the reset.
        if done is None or received is None or done.epoch != received.epoch:
            return None
        links = [link for link in self._links.values() if link.live and link.epoch == done.epoch]
        if links:
            link = max(links, key=lambda link: link.number)
            return _ToAck(done, link, done.seq - link.acked) if done.seq > link.acked else None
        if not self._rest or self._posting:
            return None
        confirmed = self._confirmed.seq if self._confirmed and self._confirmed.epoch == done.epoch else -1
        return _ToAck(done, None, done.seq - confirmed) if done.seq > confirmed else None

    def _acks(self, now: float, *, at_once: bool = False) -> list[Action]:
        to_ack = self._to_ack()
        if to_ack is None or (to_ack.link is None and now < self._post_at and not at_once):
            return []
        if not self._gathering.due(to_ack.events, now) and not at_once:
            return []
        self._gathering.clear()
        if to_ack.link is None:
            self._posting = True
            return [PostAck(to_ack.position)]
        to_ack.link.acked = to_ack.position.seq
        to_ack.link.sent_at = now
        return [SendAck(to_ack.link.number, to_ack.position.seq)]
