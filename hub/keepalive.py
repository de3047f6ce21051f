"""When to ask a device for a sign of life, and when its silence means that it is gone.

Everything that comes in counts as a sign, and so does a send buffer that drains: on a slow link a pong waits behind a
megabyte of events. A peer whose kernel still answers but whose program takes nothing is not gone but stuck, which the
session judges with more patience. Example with a heartbeat of 20 s and 8 s to answer: a link that dies right after a
pong is found 28 s later.

Who has lately heard of us and been heard is not pinged: events and their acks say the same. Neither silence gets
longer than a heartbeat by it, and now and then such a link is pinged all the same, to measure its round trip.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["Pulse", "PulseTimes", "Signs", "Verdict"]

# A busy link is pinged once in so many heartbeats.
MEASURED_HEARTBEATS: Final = 8
# What a visit may be late by, in heartbeats: a wheel has teeth.
_LATE: Final = 0.02
NEVER: Final = float("-inf")


class Verdict(Enum):
    """What to do at a visit."""

    WAIT = "wait"
    PING = "ping"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class PulseTimes:
    """Seconds between pings, and how long an answer may take."""

    heartbeat_s: float
    answer_s: float


class Signs(NamedTuple):
    """What is known at a visit.

    `heard` counts what came in and `written` the bytes given to the socket, both only ever rise; `unsent` of them the
    other end's kernel has not taken. `stuck` says that bytes wait or the window is full; `link_gone` is the kernel's
    view. Since `quiet_at` one of the two directions has carried nothing.
    """

    heard: int
    written: int
    unsent: int
    stuck: bool
    link_gone: bool
    quiet_at: float = NEVER


class Pulse:
    """The pings of one connection.

    `luck` from 0 to 1 spreads first pings, so that those who came together are not asked together.
    """

    __slots__ = ("_answer_due", "_drained", "_heard", "_measure_due", "_next_ping", "_times", "_unsent", "alive_at")

    def __init__(self, times: PulseTimes, now: float, *, luck: float) -> None:
        self._times = times
        # The first is never left out: it spreads all later ones, and tells the round trip.
        self._next_ping = self._measure_due = now + times.heartbeat_s * luck
        self._answer_due: float | None = None
        self._heard = 0
        self._drained = 0
        self._unsent = 0
        self.alive_at = now

    def __repr__(self) -> str:
        return f"Pulse(next ping {self._next_ping:.1f}, answer due {self._answer_due})"

    @property
    def due(self) -> float:
        """When to visit next."""
        answer_due, next_ping = self._answer_due, self._next_ping
        return next_ping if answer_due is None or answer_due > next_ping else answer_due

    @property
    def times(self) -> PulseTimes:
        """As they are now."""
        return self._times

    def adapt(self, times: PulseTimes) -> None:
        """From the next ping on."""
        self._times = times

    def forgive(self, now: float) -> None:
        """This process itself stood still: nobody could be heard."""
        self.alive_at = now
        if self._answer_due is not None:
            self._answer_due = now + self._times.answer_s

    def glance(self, now: float, heard: int, quiet_at: float) -> bool:
        """Whether there is nothing to judge: it was heard since the last visit, and is not to be pinged now."""
        if heard == self._heard or (now >= self._next_ping and not self._leaves_out(now, quiet_at)):
            return False
        self._heard = heard
        self.alive_at = now
        self._answer_due = None
        self._unsent = 0  # not looked at, so what drains next is no sign
        return True

    def _leaves_out(self, now: float, quiet_at: float) -> bool:
        """Whether the ping that is due says nothing new; if so, the next is due half a heartbeat later.

        By halves, so that an event that all devices got in the same instant does not make them all quiet in one.
        """
        half_s = self._times.heartbeat_s / 2
        if now >= self._measure_due or now - quiet_at >= half_s * (1 - 2 * _LATE):
            return False
        self._next_ping = max(self._next_ping, now - half_s * 2 * _LATE) + half_s
        return True

    def visit(self, now: float, signs: Signs) -> Verdict:
        """Judge, and say what to do now."""
        drained = signs.written - signs.unsent
        # A buffer that was empty drains nothing but our own ping, which a stopped program's kernel takes as well.
        moved = self._unsent > 0 and drained > self._drained
        if moved or signs.heard != self._heard:
            self.alive_at = now
            self._answer_due = None
        self._heard, self._drained, self._unsent = signs.heard, drained, signs.unsent
        if self._answer_due is not None and now >= self._answer_due:
            if signs.link_gone or not signs.stuck:
                return Verdict.GONE
            self._answer_due = now + self._times.answer_s
        if now < self._next_ping:
            return Verdict.WAIT
        if self._answer_due is None and self._leaves_out(now, signs.quiet_at):
            return Verdict.WAIT
        self._next_ping = now + self._times.heartbeat_s
        if self._answer_due is not None:
            return Verdict.WAIT
        self._measure_due = now + MEASURED_HEARTBEATS * self._times.heartbeat_s
        self._answer_due = now + self._times.answer_s
        return Verdict.PING
