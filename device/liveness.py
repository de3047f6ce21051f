"""One socket as the session sees it: what it was welcomed with, and whether somebody is still at its other end. Pure.

Three silences are told apart: no first word (the hub is not there, whatever accepted the connection), no byte for some
heartbeats (half-open: asked by a ping first, then given up), and ours (a body that takes long says that it is still
working).
"""

from dataclasses import dataclass

from device.actions import Action, CloseLink, Ping, SendAck
from shared.protocol.frames import Welcome

__all__ = ["PROTOCOL_TROUBLE", "Patience", "Socket"]

PROTOCOL_TROUBLE = 1002


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear each silence, in seconds or heartbeats."""

    welcome_s: float = 4.0
    silence_heartbeats: float = 1.45
    still_working_s: float = 15.0

    @property
    def ping_heartbeats(self) -> float:
        """Soon after the first heartbeat that is missed: the answer has most of the time until giving up."""
        return 1.0 + (self.silence_heartbeats - 1.0) / 5.0


@dataclass(slots=True)
class Socket:
    """Numbers rise: a higher one is newer."""

    number: int
    patience: Patience
    opened_at: float
    heard_at: float
    sent_at: float
    welcome: Welcome | None = None
    welcomed_at: float = 0.0
    epoch: int = 0
    acked: int = 0  # the highest ack sent here, or known by the hub at welcome
    reset_due: bool = False  # the hub starts us elsewhere than we are: a reset must say so before anything else
    went_live: bool = False
    closing: bool = False
    _pinged: bool = False

    @property
    def live(self) -> bool:
        """Events flow."""
        return self.welcome is not None and not self.reset_due and not self.closing

    def heard(self, now: float) -> None:
        """Something came in."""
        self.heard_at = now
        self._pinged = False

    def close(self, reason: str, *, abort: bool = False, code: int = PROTOCOL_TROUBLE) -> CloseLink:
        """Give it up: what still comes from it is not read any more, and it is not live from here on."""
        self.closing = True
        return CloseLink(self.number, code, reason[:100], abort)

    def on_tick(self, now: float, *, reading: bool, unfinished: bool) -> list[Action]:
        """`reading`: whether we read at all; `unfinished`: whether the application has something of its events."""
        if self.closing:
            return []
        if (first_word_at := self._first_word_due) is not None:
            return [self.close("accepted and silent", abort=True)] if now >= first_word_at else []
        if not reading:
            self.heard_at = now  # nothing is read, so silence says nothing
        actions: list[Action] = []
        if self._heartbeat_s > 0:
            if now >= self._given_up_at:
                return [self.close("half-open: nothing heard", abort=True)]
            if not self._pinged and now >= self._ping_at:
                self._pinged = True
                actions.append(Ping(self.number))
        if unfinished and now >= self.sent_at + self.patience.still_working_s:
            self.sent_at = now
            actions.append(SendAck(self.number, self.acked))
        return actions

    def next_tick(self, *, unfinished: bool) -> float | None:
        """When `on_tick` has something to do."""
        if self.closing:
            return None
        if (first_word_at := self._first_word_due) is not None:
            return first_word_at
        times = []
        if self._heartbeat_s > 0:
            times.append(self._given_up_at if self._pinged else self._ping_at)
        if unfinished:
            times.append(self.sent_at + self.patience.still_working_s)
        return min(times, default=None)

    @property
    def _heartbeat_s(self) -> float:
        return self.welcome.heartbeat_s if self.welcome is not None else 0.0

    @property
    def _first_word_due(self) -> float | None:
        if self.welcome is None:
            return self.opened_at + self.patience.welcome_s
        return self.welcomed_at + self.patience.welcome_s if self.reset_due else None

    @property
    def _ping_at(self) -> float:
        return self.heard_at + self.patience.ping_heartbeats * self._heartbeat_s

    @property
    def _given_up_at(self) -> float:
        return self.heard_at + self.patience.silence_heartbeats * self._heartbeat_s
