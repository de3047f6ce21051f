"""What one connection has shown of its link since it was welcomed, and what is changed for it by that.

Pings show the round trip, from which follows how long an answer may take; the acks of a device that catches up show
what its link carries, from which follows how much may be in flight. Pure; looked at when the connection is visited.
"""

from typing import Final

from hub.keepalive import Pulse, PulseTimes
from hub.link_profile import LOOK_S, CatchUp, GoodLink, answer_s_of, in_flight_max, profile_of, settled_rtt

__all__ = ["LinkWatch"]

_NEVER: Final = float("inf")


class LinkWatch:
    """`answered()` after a ping, `catches_up()` with a page; while there is a `catch_up`, `ceiling()` and `due()`."""

    __slots__ = ("_connect_rtt_s", "_flaps", "_good", "_heartbeat_s", "_max_bytes", "_rtt_s", "catch_up")

    def __init__(self, good: GoodLink, *, rtt_s: float, flaps: float, heartbeat_s: float, max_bytes: int) -> None:
        """`heartbeat_s` is what the welcome has told the device, `max_bytes` the most that may ever be in flight."""
        self._good = good
        # Later round trips hold the time that what is in flight takes itself: reckoning with them would add to it.
        self._connect_rtt_s = rtt_s
        self._rtt_s = rtt_s
        self._flaps = flaps
        self._heartbeat_s = heartbeat_s
        self._max_bytes = max_bytes
        self.catch_up: CatchUp | None = None

    def __repr__(self) -> str:
        return f"LinkWatch({1000 * self._rtt_s:.0f} ms, {self.catch_up or 'no catch-up'})"

    @property
    def rtt_s(self) -> float:
        """The round trip as it has settled; 0 while none is known."""
        return self._rtt_s

    def answered(self, rtt_s: float, pulse: Pulse) -> None:
        """A ping was answered after so long."""
        self._rtt_s = settled_rtt(self._rtt_s, rtt_s)
        if answer_s_of(self._good, self._rtt_s) != pulse.times.answer_s:
            profile = profile_of(self._good, rtt_s=self._rtt_s, flaps=self._flaps)
            # The device was told one heartbeat by the welcome and takes a longer silence for a dead hub.
            pulse.adapt(PulseTimes(min(profile.heartbeat_s, self._heartbeat_s), profile.answer_s))

    def catches_up(self, now: float, acked_bytes: int) -> None:
        """A device that is behind got a page: it has acked, or there would be none."""
        if self.catch_up is None:
            self.catch_up = CatchUp(now, acked_bytes)
        self.catch_up.moves = True

    def ceiling(self, now: float, acked_bytes: int, *, is_live: bool) -> int | None:
        """Bytes that may be in flight from now on; None: as before."""
        if self.catch_up is None:
            return None
        if is_live:
            self.catch_up = None
            return None
        rate = self.catch_up.look(now, acked_bytes)
        if rate is None:
            return None
        first_bytes = self._good.first_bytes
        return in_flight_max(rate, rtt_s=self._connect_rtt_s, first_bytes=first_bytes, max_bytes=self._max_bytes)

    def due(self, now: float) -> float:
        """When to look again."""
        return now + LOOK_S if self.catch_up is not None and self.catch_up.moves else _NEVER
