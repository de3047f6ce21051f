"""What a device's link is like, and what follows from it: heartbeat, time to answer, bytes at first, bytes in flight.

Pure. Known when a device connects are the round trip (as its kernel or ours has measured it, later from pings) and how
often it came lately (`flaps`, a count of connects that decays). The rules:

- A long round trip gets a longer time to answer, and the heartbeat is shortened by as much: a dead link is found within
  the sum of the two, and that sum never grows.
- A link that flaps is asked sooner, down to half the heartbeat: what breaks often is found broken sooner, and a mapping
  in a carrier's NAT that idles out is kept. Nothing is asked later than the setting says: a radio saved now and then is
  not worth a truck that seems connected for a minute.
- The first bytes are what such a link carries in about two seconds when TCP starts (ten segments for each round trip),
  and less for one that flaps, since what is not acked when it breaks is sent again.
- During a catch-up there are in flight about four seconds' worth of what acks have shown that the link, and the program
  behind it, can carry.

Every answer lies within what the settings say for a good link, and never gets better as the link gets worse.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["LOOK_S", "CatchUp", "GoodLink", "LinkProfile", "answer_s_of", "in_flight_max", "profile_of", "settled_rtt"]

ANSWER_ROUND_TRIPS: Final = 4.0
FIRST_S: Final = 2.0
TCP_FIRST_BYTES: Final = 10 * 1460
FIRST_LEAST_BYTES: Final = 16 * 1024
# From so many flaps on a link is worse than others', up to so many, where it is as bad as is admitted.
FLAPS_USUAL: Final = 2.0
FLAPS_WORST: Final = 8.0
IN_FLIGHT_S: Final = 4.0
LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class GoodLink:
    """What the settings say: for a link that is near and stays. All else is at most this."""

    heartbeat_s: float
    answer_s: float
    first_bytes: int


class LinkProfile(NamedTuple):
    """Seconds between pings, seconds that an answer may take, bytes in flight at first."""

    heartbeat_s: float
    answer_s: float
    first_bytes: int


def profile_of(good: GoodLink, *, rtt_s: float, flaps: float) -> LinkProfile:
    """What to do on a link with this round trip (0: not known) whose device came so often lately."""
    worse = min(1.0, max(0.0, (flaps - FLAPS_USUAL) / (FLAPS_WORST - FLAPS_USUAL)))
    found_within_s = good.heartbeat_s + good.answer_s
    answer_s = answer_s_of(good, rtt_s)
    heartbeat_s = good.heartbeat_s * (1.0 - worse / 2)
    if answer_s > good.answer_s:
        heartbeat_s = min(heartbeat_s, found_within_s - answer_s)
    least = min(good.first_bytes, FIRST_LEAST_BYTES)
    carried = good.first_bytes if rtt_s <= 0 else min(good.first_bytes, FIRST_S * TCP_FIRST_BYTES / rtt_s)
    first_bytes = max(least, int(carried * (1.0 - 0.75 * worse)))
    return LinkProfile(heartbeat_s, answer_s, first_bytes)


def answer_s_of(good: GoodLink, rtt_s: float) -> float:
    """The profile's time to answer: the one thing in it that a measured round trip changes later on."""
    if ANSWER_ROUND_TRIPS * rtt_s <= good.answer_s:
        return good.answer_s
    return min(ANSWER_ROUND_TRIPS * rtt_s, good.answer_s + good.heartbeat_s / 2)


def settled_rtt(before_s: float, latest_s: float) -> float:
    """The round trip to reckon with: worse at once, better by halves."""
    return latest_s if latest_s >= before_s else (before_s + latest_s) / 2


def in_flight_max(rate: float, *, rtt_s: float, first_bytes: int, max_bytes: int) -> int:
    """Bytes that may be on their way over a link that carries `rate` bytes per second.

    Two round trips more, or a far link could never show that it carries more. `rtt_s` is of the line without what waits
    on it.
    """
    least = min(first_bytes, FIRST_LEAST_BYTES)
    return int(min(max_bytes, max(least, rate * (IN_FLIGHT_S + 2 * rtt_s))))


class CatchUp:
    """What a device that is behind has shown that it can carry. Made when it falls behind, looked at every second while
    acks come (`moves`).
    """

    __slots__ = ("_acked_bytes", "_at", "moves", "rate")

    def __init__(self, now: float, acked_bytes: int) -> None:
        """`acked_bytes` only rises: all that was acked on this connection."""
        self._at = now
        self._acked_bytes = acked_bytes
        self.moves = True
        self.rate: float | None = None

    def __repr__(self) -> str:
        return f"CatchUp({'not known yet' if self.rate is None else f'{self.rate:.0f} bytes/s'})"

    def look(self, now: float, acked_bytes: int) -> float | None:
        """Bytes per second: a better sample counts at once, a worse one by a quarter. None until there is one."""
        elapsed = now - self._at
        if elapsed < LOOK_S / 2:
            return self.rate
        self.moves = acked_bytes > self._acked_bytes
        sample = (acked_bytes - self._acked_bytes) / elapsed
        self._at, self._acked_bytes = now, acked_bytes
        if self.rate is None or sample > self.rate:
            self.rate = sample
        else:
            self.rate += (sample - self.rate) / 4
        return self.rate
