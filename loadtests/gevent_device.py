"""A device on gevent: the SDK's session and its timing of tries, carried by greenlets instead of tasks.

The session decides (what is accepted, acked, pinged, closed), the route says when a socket is tried again, and this
performs it: what `device.carrier` does for an application, without REST, files and a position that outlives the run.
The application's body is `on_event`; it runs in the greenlet that reads the socket and must not wait.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final
from uuid import UUID

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from device.actions import Action, CloseLink, Delivery, Gone, Live, MoveTo, Ping, Said, SendAck, ack_frame
from device.addresses import socket_url
from device.liveness import Patience
from device.moves import Moves
from device.route import Route
from device.session import Session
from device.timing import Timing
from loadtests.gevent_link import GeventLink, LinkClosed, NoLink, open_link
from shared.clock import monotonic
from shared.protocol.close_codes import CloseCode, Return

__all__ = ["DeviceEnded", "GeventDevice", "Place"]

_WAIT_MIN_S: Final = 0.005


class DeviceEnded(Exception):
    """The hub has said that this device must not come back."""


@dataclass(frozen=True)
class Place:
    """Where to open the socket, in order of choice, and the ticket or token that opens it."""

    urls: Sequence[str]
    bearer: str


def _nothing(_seconds: float, _error: Exception | None) -> None:
    return


@dataclass
class GeventDevice:
    """`run()` until `stop()`. `place` is asked before each try and raises NoLink when it cannot say.

    `on_try` is told how each try for a socket ended: after how many seconds, and the error, or None once welcomed.
    """

    device_id: str
    place: Callable[[], Place]
    on_event: Callable[[Delivery], None]
    rand: Random
    on_try: Callable[[float, Exception | None], None] = _nothing
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self) -> None:
        patience = Patience(self.timing.welcome_s, self.timing.silence_heartbeats, self.timing.still_working_s)
        self.session = Session(patience=patience)
        self.refused_frames = 0
        self.sockets = 0
        self._route = Route(self.rand, monotonic(), self.timing, has_rest=False)
        self._instance = str(UUID(int=self.rand.getrandbits(128), version=4))
        self._attempt = 0
        self._links: dict[int, GeventLink] = {}
        self._begun: dict[int, float] = {}  # when tries began that are not welcomed yet
        self._closing: dict[int, float] = {}  # until when a closing handshake may take
        self._moves = Moves(pace_s=self.timing.move_pace_s, after_max_s=self.timing.retry_after_max_s)
        self._movers: list[gevent.Greenlet] = []  # each carries the socket that it opened
        self._stopping = False
        self._ended: Exception | None = None
        self._changed = Event()
        self._dialing = BoundedSemaphore(1)

    @property
    def live(self) -> bool:
        """Whether events flow."""
        return self.session.live

    def run(self) -> None:
        """Be connected, again and again. Raises DeviceEnded."""
        try:
            while self._ended is None and (not self._stopping or self._links):
                due, now = self._route.socket_due, monotonic()
                if not self._links and due <= now:
                    self._try(None)
                    continue
                self._changed.clear()
                self._changed.wait(self.timing.tick_max_s if self._links else min(due - now, self.timing.tick_max_s))
        finally:
            for mover in self._movers:
                mover.kill(block=False)
            for link in self._links.values():
                link.abort()
        if self._ended is not None:
            raise self._ended

    def stop(self) -> None:
        """Ack what is finished and leave; `run()` returns soon, at the latest when a try under way has ended."""
        self._stopping = True
        self._do(self.session.flush(monotonic()))
        for number in list(self._links):
            self._close(number, CloseCode.NORMAL, "done")
        self._changed.set()

    def cut(self) -> None:
        """Break its sockets, as a lost link does."""
        for link in list(self._links.values()):
            link.break_off()

    # -- one socket

    def _try(self, moved_to: str | None) -> None:
        begun = monotonic()
        try:
            # One at a time: the session is told of sockets in the order of their numbers.
            with self._dialing:
                if moved_to is None and self._links:
                    return
                place = self.place()
                number, link = self._open(place.urls if moved_to is None else (moved_to,), place.bearer)
                self._links[number], self._begun[number] = link, begun
        except NoLink as error:
            self.on_try(monotonic() - begun, error)
            if not self.session.live:
                self._route.on_failed(monotonic(), error.retry_after)
        else:
            self._carry(number, link)

    def _open(self, urls: Sequence[str], bearer: str) -> tuple[int, GeventLink]:
        """A link to the first address that gives one. Raises NoLink with the last error when none does."""
        error = NoLink("no address is known")
        for url in urls:
            self._attempt += 1
            number, after = self._attempt, self.session.received
            address = socket_url(url, device_id=self.device_id, after=after, instance=self._instance, attempt=number)
            self.session.on_try(number)
            try:
                link = open_link(address, bearer, self.timing)
            except NoLink as refused:
                self._do(self.session.on_try_failed(number))
                error = refused
                continue
            self.session.on_open(number, monotonic())
            self.sockets += 1
            return number, link
        raise error

    def _carry(self, number: int, link: GeventLink) -> None:
        closed = LinkClosed(1006, "connection lost")
        try:
            while True:
                if self._stopping and not link.closing:
                    self._close(number, CloseCode.NORMAL, "done")
                texts = link.receive(self._wait_s(number))
                now = monotonic()
                if texts is not None:
                    self.session.on_bytes(number, now)
                for text in texts or ():
                    self._do(self.session.on_frame(number, text, now))
                self._give(now)
                self._do(self.session.on_tick(now))
                if now >= self._closing.get(number, float("inf")):
                    link.abort()
        except LinkClosed as end:
            closed = end
        finally:
            link.abort()
            del self._links[number]
            self._closing.pop(number, None)
        begun = self._begun.pop(number, None)
        self._do(self.session.on_closed(number, closed.code, closed.reason))
        if begun is not None and not self._stopping:
            self.on_try(monotonic() - begun, closed)
            if not self.session.live:
                self._route.on_failed(monotonic())
        self._changed.set()

    def _wait_s(self, number: int) -> float:
        now = monotonic()
        due = min(self.session.next_tick() or float("inf"), self._closing.get(number, float("inf")))
        return max(_WAIT_MIN_S, min(due - now, self.timing.tick_max_s))

    def _give(self, now: float) -> None:
        """Let the application have what waits."""
        while (taken := self.session.take()) is not None:
            if isinstance(taken, Delivery):
                self.on_event(taken)
            self._do(self.session.finish(now))

    # -- what the session decided

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case SendAck(number, seq):
                    if link := self._links.get(number):
                        link.send_text(ack_frame(seq))
                case Ping(number):
                    if link := self._links.get(number):
                        link.ping()
                case CloseLink(number, code, reason, abort):
                    self._close(number, code, reason, abort=abort)
                case Live(number, jitter_s):
                    self._route.on_live(monotonic(), jitter_s)
                    if (begun := self._begun.pop(number, None)) is not None:
                        self.on_try(monotonic() - begun, None)
                case Gone() as gone:
                    self._on_gone(gone)
                case MoveTo(number, url, after_s):
                    self._moves.plan(number, url, after_s, monotonic())
                    self._move_when_due()
                case Said():
                    self.refused_frames += 1
                case _:
                    pass  # notices are not counted; acks by REST are not asked for without REST

    def _close(self, number: int, code: int, reason: str, *, abort: bool = False) -> None:
        link = self._links.get(number)
        if link is None:
            return
        if abort:
            link.abort()
            return
        link.close(code, reason)
        self._closing.setdefault(number, monotonic() + self.timing.close_s)

    def _on_gone(self, gone: Gone) -> None:
        if self._stopping:
            return
        if gone.how is Return.NEVER and not gone.pending:
            self._ended = DeviceEnded(f"{gone.code} {gone.reason}".rstrip())
        elif gone.was_live:
            self._route.on_gone(gone.how, gone.code, monotonic(), replaced=gone.pending)

    def _move_when_due(self) -> None:
        if (due := self._moves.due) is not None:
            self._movers = [mover for mover in self._movers if not mover.dead]
            self._movers.append(gevent.spawn_later(max(0.0, due - monotonic()), self._move))

    def _move(self) -> None:
        """A second socket beside the first; the session closes the old one when the new one is live."""
        due = self._moves.due
        if self._stopping or due is None:
            return
        if due > monotonic():  # woken early, or for a wish that a newer one has replaced
            self._move_when_due()
            return
        move = self._moves.take(self.session.newest, monotonic())
        if move is None:
            return
        self._try(move.url)
        if self.session.newest == move.link:
            self._moves.failed(move, monotonic(), self.timing.backoff_base_s * self.rand.uniform(1.0, 2.0))
            self._move_when_due()
