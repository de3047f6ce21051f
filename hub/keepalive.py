"""When to ask a device for a sign of life, and when its silence means that it is gone.

Everything that comes in counts as a sign, and so does a send buffer that drains: on a slow link a pong waits behind a
megabyte of events. A peer whose kernel still answers but whose program takes nothing is not gone but stuck, which the
session judges with more patience. Example with a heartbeat of 20 s and 8 s to answer: a link that dies right after a
pong is found 28 s later.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

__all__ = ["Pulse", "PulseTimes", "Signs", "Verdict"]


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
    view.
    """

    heard: int
    written: int
    unsent: int
    stuck: bool
    link_gone: bool


class Pulse:
    """The pings of one connection.

    `luck` from 0 to 1 spreads first pings, so that those who came together are not asked together.
    """

    __slots__ = ("_answer_due", "_drained", "_heard", "_next_ping", "_times", "_unsent", "alive_at")

    def __init__(self, times: PulseTimes, now: float, *, luck: float) -> None:
        self._times = times
        self._next_ping = now + times.heartbeat_s * luck
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
        return self._next_ping if self._answer_due is None else min(self._next_ping, self._answer_due)

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
        self._next_ping = now + self._times.heartbeat_s
        if self._answer_due is not None:
            return Verdict.WAIT
        self._answer_due = now + self._times.answer_s
        return Verdict.PING
