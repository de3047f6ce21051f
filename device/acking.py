"""What is finished, what of it the server knows, and which way the next ack goes: on the newest live socket, or by
REST. Pure.

An ack is never above what the application has finished, and never of another epoch than the socket's. By REST one is
under way at a time. What was finished and is not known to have arrived is acked again on the next way that works.
"""

from typing import Final, NamedTuple

from device.acks import Gathering
from device.actions import Action, PostAck, SendAck
from device.inbox import Inbox
from device.liveness import Socket
from device.sockets import Sockets
from shared.protocol.frames import Welcome
from shared.protocol.position import Position

__all__ = ["Acking"]

_POST_AGAIN_S: Final = 2.0
_WAIT_MAX_MS: Final = 60_000


class _ToAck(NamedTuple):
    position: Position
    link: Socket | None  # None: by REST
    events: int


class Acking:
    """`links` and `inbox` are the session's own, looked at and not changed, but for what was acked on a link."""

    def __init__(self, links: Sockets, inbox: Inbox, done: Position | None) -> None:
        self.done = done
        self._links = links
        self._inbox = inbox
        self._gathering = Gathering()
        self._held: Position | None = None  # what the server is known to hold
        self._by_rest = False
        self._posting = False
        self._post_at = float("-inf")  # not before, after a failed try

    def begin_at(self, position: Position) -> None:
        """A client without a position of its own begins where the server says."""
        self.done = self._held = position

    def on_welcome(self, welcome: Welcome, held: Position) -> None:
        """The hub says how acks are gathered, and what it holds."""
        self._gathering.every = max(1, welcome.ack_every)
        self._gathering.wait_s = min(max(0, welcome.ack_ms), _WAIT_MAX_MS) / 1000
        self._held = held

    def on_held(self, position: Position) -> None:
        """The server begins anew here."""
        self._held = position

    def first(self, link: Socket, received: Position | None, head: int, now: float) -> list[Action]:
        """What was finished and never reached the server goes first, before anything is gathered."""
        if self.done is not None and self.done.epoch == link.epoch and self.done.seq > link.acked:
            return self.due(received, head, now, at_once=True)
        self._gathering.clear()
        return []

    def finished(self, position: Position, size: int, received: Position | None, now: float) -> None:
        """The application is done with it."""
        self.done = position
        if self._to_ack(received) is not None:
            self._gathering.add(size, now)

    def drop_gathered(self) -> None:
        """What was gathered is of a log that is over."""
        self._gathering.clear()

    def use_rest(self, on: bool) -> None:
        """Whether acks may go by REST while no socket is live."""
        self._by_rest = on

    def on_posted(self, position: Position | None, now: float, wish_s: float = 0.0) -> None:
        """The answer to `PostAck`: what the server holds now, or None when the try failed; then not before `wish_s`."""
        self._posting = False
        if position is None:
            self._post_at = now + max(_POST_AGAIN_S, wish_s)
        elif self._held is None or position > self._held:
            self._held = position

    def holds(self, position: Position) -> bool:
        """Whether the server is known to have an ack of this."""
        held = self._held
        return held is not None and held.epoch == position.epoch and position <= held

    def due(self, received: Position | None, head: int, now: float, *, at_once: bool = False) -> list[Action]:
        """The ack that is due now, if there is one."""
        to_ack = self._to_ack(received)
        if to_ack is None or (to_ack.link is None and now < self._post_at and not at_once):
            return []
        drained, more = not self._inbox.unfinished, received is not None and received.seq < head
        if not self._gathering.due(to_ack.events, now, drained=drained, more=more) and not at_once:
            return []
        self._gathering.clear()
        if to_ack.link is None:
            self._posting = True
            return [PostAck(to_ack.position)]
        to_ack.link.acked = to_ack.position.seq
        to_ack.link.sent_at = now
        return [SendAck(to_ack.link.number, to_ack.position.seq)]

    def due_at(self, received: Position | None, head: int) -> float | None:
        """When `due()` has something, if nothing else happens."""
        to_ack = self._to_ack(received)
        if to_ack is None:
            return None
        drained, more = not self._inbox.unfinished, received is not None and received.seq < head
        at = self._gathering.due_at(drained=drained, more=more)
        return max(at, self._post_at) if to_ack.link is None else at

    def _to_ack(self, received: Position | None) -> _ToAck | None:
        """What is finished and not acked yet, and which way its ack would go; None when there is nothing, or no way."""
        done = self.done
        # After a raised epoch `done` is of the old one until the application has taken the reset.
        if done is None or received is None or done.epoch != received.epoch:
            return None
        links = [link for link in self._links if link.live and link.epoch == done.epoch]
        if links:
            link = max(links, key=lambda link: link.number)
            return _ToAck(done, link, done.seq - link.acked) if done.seq > link.acked else None
        if not self._by_rest or self._posting:
            return None
        held = self._held.seq if self._held and self._held.epoch == done.epoch else -1
        return _ToAck(done, None, done.seq - held) if done.seq > held else None
