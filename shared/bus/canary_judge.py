"""Whether the bus delivers, judged from a hub's messages to itself: pure, told of time and of what happened.

A socket that looks healthy proves nothing: subscriptions get lost on failover and buffers overflow in silence. So a
canary goes through the real publish path every 400 ms. One late, or the connection lost: `doubt`. Two late: if Redis
serves nobody it is a shared fault (`degraded`), if it serves others it is ours (`deaf`). Time in which this process
itself did not run counts for nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["Action", "BusState", "CanaryJudge", "Probe", "Reconnect", "Send", "worst"]

_OUTSTANDING_MAX: Final = 64
# So many late in a row are a judgement. A connection that never was heard by, and one to a Redis that is just back,
# are not called deaf as soon: the publisher needs a moment too.
_LATE: Final = 2
_LATE_UNPROVEN: Final = 3


class BusState(Enum):
    """What a hub may rely on."""

    OK = "ok"  # what is published arrives
    DOUBT = "doubt"  # it may not: sweep the log often
    DEGRADED = "degraded"  # Redis serves nobody: deliver from the log, stay ready
    DEAF = "deaf"  # Redis serves others: not ready, reconnect


# Deaf outweighs degraded: the part that is our own fault is the one that a hub can do something about.
_BY_WEIGHT: Final = (BusState.DEAF, BusState.DEGRADED, BusState.DOUBT, BusState.OK)


def worst(states: Iterable[BusState]) -> BusState:
    """What a bus of several nodes is, given what each is. Without a node nothing is known."""
    return min(states, key=_BY_WEIGHT.index, default=BusState.DOUBT)


@dataclass(frozen=True, slots=True)
class Send:
    """Publish canary `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class Probe:
    """See whether Redis serves a separate connection and report it by `on_probed`."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Give the reader's connection up."""


Action = Send | Probe | Reconnect


@dataclass(slots=True)
class _Sent:
    at: float
    due: float
    is_late: bool = False


class CanaryJudge:
    """Feed it `on_tick` every `tick_s` and what happens between; read `state`."""

    def __init__(
        self, *, interval_s: float = 0.4, late_s: float = 0.4, tick_s: float = 0.1, reconnect_every_s: float = 2.0
    ) -> None:
        self._interval_s = interval_s
        self._late_s = late_s
        self._tick_s = tick_s
        self._reconnect_every_s = reconnect_every_s
        self._outstanding: dict[int, _Sent] = {}
        self._number = 0
        self._next_send = 0.0
        self._last_tick: float | None = None
        self._late = 0
        self._deaf_from = _LATE_UNPROVEN
        self._is_slow = False
        self._is_connected = False
        # Nothing is believed of a connection until a canary that was sent over it came back.
        self._proven_after: int | None = 0
        self._probing = False
        self._next_probe = 0.0
        self._serves: bool | None = None
        self._reconnect_at = 0.0

    def __repr__(self) -> str:
        return f"CanaryJudge({self.state.value}, {self._late} late, {len(self._outstanding)} outstanding)"

    @property
    def state(self) -> BusState:
        """The judgement now."""
        if self._late >= _LATE and self._serves is False:
            return BusState.DEGRADED
        if self._late >= self._deaf_from and self._serves:
            return BusState.DEAF
        if self._late or self._is_slow or not self._is_connected or self._proven_after is not None:
            return BusState.DOUBT
        return BusState.OK

    @property
    def is_connected(self) -> bool:
        """Whether the reader's connection is up."""
        return self._is_connected

    @property
    def late(self) -> int:
        """Canaries late since the last that came back."""
        return self._late

    def on_connection(self, is_up: bool) -> None:
        """The reader's connection came or went."""
        self._is_connected = is_up
        self._proven_after = self._number

    def on_tick(self, now: float) -> list[Action]:
        """What to do now. Call it every `tick_s`; what it comes too late by is taken as a stall of this process."""
        if self._last_tick is None:
            self._last_tick = self._next_send = now
        stall = now - self._last_tick - self._tick_s
        self._last_tick = now
        if stall > 0:
            for sent in self._outstanding.values():
                sent.due += stall
        for sent in self._outstanding.values():
            if not sent.is_late and sent.due <= now:
                sent.is_late = True
                self._late += 1
        actions: list[Action] = []
        # Half a tick early rather than a whole one late.
        if now >= self._next_send - self._tick_s / 2:
            self._next_send = now + self._interval_s
            actions.append(self._send(now))
        if self._late and not self._probing and now >= self._next_probe:
            self._probing = True
            self._next_probe = now + self._interval_s
            actions.append(Probe())
        if self.state is BusState.DEAF and now >= self._reconnect_at:
            self._reconnect_at = now + self._reconnect_every_s
            actions.append(Reconnect())
        return actions

    def on_returned(self, number: int, now: float) -> float | None:
        """Canary `number` came back. Returns its round trip in seconds, None for one that is not outstanding."""
        sent = self._outstanding.pop(number, None)
        if sent is None:
            return None
        for earlier in [n for n in self._outstanding if n < number]:
            del self._outstanding[earlier]
        in_time = not sent.is_late and now < sent.due
        # One that comes late shows that something arrives, not that it arrives in time.
        self._late = 0
        self._is_slow = not in_time
        self._deaf_from = _LATE
        self._serves = None
        if in_time and self._proven_after is not None and number > self._proven_after and self._is_connected:
            self._proven_after = None
        return now - sent.at

    def on_probed(self, serves: bool) -> None:
        """Redis did or did not serve a separate connection."""
        self._probing = False
        if not self._late:
            return
        if serves and self._serves is False:
            # Just back. What was sent while it served nobody proves nothing against this hub, whose connections need
            # a moment to return: judge it by what is sent from now on.
            self._outstanding.clear()
            self._late = 0
            self._deaf_from = _LATE_UNPROVEN
            self._proven_after = self._number
            self._serves = None
        else:
            self._serves = serves

    def _send(self, now: float) -> Send:
        self._number += 1
        self._outstanding[self._number] = _Sent(now, now + self._late_s)
        if len(self._outstanding) > _OUTSTANDING_MAX:
            del self._outstanding[next(iter(self._outstanding))]
        return Send(self._number)
