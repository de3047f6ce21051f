"""Which way to the server, and when: pure timing rules for socket tries, REST and the state that the application sees.

The socket is tried for ever, with full jitter from the first try on. REST begins when there has been no live socket for
a grace time, whatever became of the tries, so a try that hangs in a swallowed SYN delays nothing; probing for the
socket goes on beside it. A socket counts as good, and the backoff starts anew, only when it has lived for a while: else
a hub that accepts and closes would be hammered.

A device that connects too often is parked: events by REST for a while, then the socket again, by itself. A wish of the
server (Retry-After, the parking time) is a lower bound; some of it is added at random, or a refused fleet would come
back together.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from device.timing import Timing
from shared.backoff import Backoff
from shared.protocol.close_codes import CloseCode, Return

if TYPE_CHECKING:
    from random import Random

__all__ = ["Route", "State"]

_SPREAD_MAX_S: Final = 60.0
_WISH_JITTER: Final = 1.25  # a wish of the server is stretched by up to this


class State(Enum):
    """How the device stands to the server, for people and for the application."""

    CONNECTING = "connecting"
    LIVE = "live"  # events come over a socket
    REST = "rest"  # the socket cannot be had; events come by REST
    OFFLINE = "offline"  # neither works; the client keeps trying
    CLOSED = "closed"  # the client has ended


@dataclass
class Route:
    """One client's way. `has_rest` is false when only a socket address is known."""

    rand: "Random"
    now: float
    timing: Timing
    has_rest: bool

    def __post_init__(self) -> None:
        base, cap = self.timing.backoff_base_s, self.timing.backoff_cap_s
        self._socket_backoff = Backoff(self.rand, base=base, cap=cap)
        self._rest_backoff = Backoff(self.rand, base=base, cap=cap)
        self._live_since: float | None = None
        self._socket_failed = False
        self._rest_works: bool | None = None
        self._spread_s = 0.0
        self._replaced = False  # the last socket is gone, and the one that takes its place is on its way
        self._parked_until = float("-inf")
        self.socket_due = self.now + self._socket_backoff.next()
        self.rest_due: float | None = None
        self._allow_rest(self.now)

    @property
    def state(self) -> State:
        """What holds now; CLOSED is for the client to say."""
        if self._live_since is not None or self._replaced:
            return State.LIVE
        if self._rest_works:
            return State.REST
        if self._socket_failed and (self._rest_works is False or not self.has_rest):
            return State.OFFLINE
        return State.CONNECTING

    def parked_s(self, now: float) -> float:
        """For how long the socket is left alone because this device connected too often; 0: it is not parked."""
        return max(0.0, self._parked_until - now)

    def on_live(self, now: float, spread_s: float) -> None:
        """A socket was welcomed. `spread_s` is what the hub wants its devices spread over when they come back."""
        self._live_since = now
        self._spread_s = min(spread_s, _SPREAD_MAX_S)
        self._socket_failed = False
        self._rest_works = None
        self._replaced = False
        self._parked_until = float("-inf")
        self._rest_backoff.reset()
        self.rest_due = None
        self.socket_due = float("inf")  # until on_gone

    def on_gone(self, how: Return, code: int, now: float, *, replaced: bool = False) -> None:
        """The last live socket has closed. `replaced`: the one that takes its place is on its way; that is no news for
        people unless it comes to nothing or REST begins first."""
        if self._live_since is not None and now - self._live_since >= self.timing.stable_s:
            self._socket_backoff.reset()
        self._live_since = None
        self._replaced = replaced
        base = self.timing.backoff_base_s
        # Tokens run out one by one; everything else that says "now" is said to many devices at once.
        spread = base if code == CloseCode.EXPIRED else max(self._spread_s, base)
        if how in (Return.NOW, Return.WITH_NEW_TOKEN) and self._socket_backoff.attempt == 0:
            # Told to come back: only spread, no wait. The attempt is counted, so that being told so again backs off.
            self._socket_backoff.attempt = 1
            delay = self.rand.uniform(0.0, spread)
        else:
            delay = max(self._socket_backoff.next(), self.rand.uniform(0.0, self._spread_s))
        self._allow_rest(now)
        self.socket_due = now + delay
        if code == CloseCode.FLAPPING:
            self.on_flapping(now)

    def on_flapping(self, now: float, retry_after: float | None = None) -> None:
        """This device connects too often: leave the socket alone for a while and use REST, from now on."""
        self._replaced = False
        own_s = self.rand.uniform(1.0, 2.0) * self.timing.flapping_s
        self._parked_until = self.socket_due = now + (own_s if retry_after is None else self._stretched(retry_after))
        if self.has_rest and self._rest_works is None:
            self.rest_due = now + self.rand.uniform(0.0, self.timing.backoff_base_s)

    def on_failed(self, now: float, retry_after: float | None = None) -> None:
        """A socket try came to nothing."""
        self._socket_failed = True
        self._replaced = False
        delay = self._socket_backoff.next()
        if retry_after is not None:
            delay += self._stretched(retry_after)
        self.socket_due = max(now + delay, self._parked_until)

    def on_rest_ok(self, now: float, *, idle: bool = False) -> None:
        """A REST request worked; the next may follow at once, or, after an empty answer that came early, a little
        later."""
        self._rest_works = True
        self._replaced = False
        if idle:
            self.rest_due = now + self._rest_backoff.next()
        else:
            self._rest_backoff.reset()
            self.rest_due = now

    def on_rest_failed(self, now: float, retry_after: float | None = None) -> None:
        """A REST request came to nothing."""
        self._rest_works = False
        self._replaced = False
        delay = self._rest_backoff.next()
        if retry_after is not None:
            delay += self._stretched(retry_after)
        self.rest_due = now + delay

    def on_rest_later(self, now: float, retry_after: float | None = None) -> None:
        """The server is there and works, and wants to be asked less often."""
        self._rest_works = True
        self._replaced = False
        self._rest_backoff.reset()
        self.rest_due = now + self._rest_backoff.next() + self.heeded(retry_after)

    def heeded(self, wish_s: float | None) -> float:
        """Seconds to wait for a wish of the server, if it had one: no less than those, as far as they are bearable."""
        return 0.0 if wish_s is None else self._stretched(wish_s)

    def hurry(self, now: float) -> None:
        """A person or the system says that the network is back: try now. A parked device stays parked: a network that
        comes back again and again is what it was parked for."""
        self.socket_due = min(self.socket_due, max(now, self._parked_until))
        if self.rest_due is not None:
            self.rest_due = min(self.rest_due, now)

    def _stretched(self, wish_s: float) -> float:
        return min(max(0.0, wish_s), self.timing.retry_after_max_s) * self.rand.uniform(1.0, _WISH_JITTER)

    def _allow_rest(self, now: float) -> None:
        if self.has_rest and self.rest_due is None:
            # Spread below the grace time, so that a fleet that lost its hub does not ask in the same second.
            self.rest_due = now + self.rand.uniform(0.5, 1.0) * self.timing.grace_s
