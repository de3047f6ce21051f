"""How fast devices may come in: so many handshakes a second in all, so many sockets and handshakes from one address.

Token buckets; time is an argument. Whoever is turned away is told when to come back, spread over the time that those
turned away before need to be let in, so that a wave becomes a queue and not a second wave. Addresses are remembered in
bounded number: one with open sockets stays, the one not seen for the longest time is forgotten first.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import Final

from hub.refusals import Refusal
from hub.trusted_proxies import TrustedProxies, address_key
from shared.token_bucket import TokenBucket

__all__ = ["Addresses", "Admission", "AdmissionLimits"]

ADDRESSES_MAX: Final = 10_000
LOOKS_MAX: Final = 16
WAIT_MAX_S: Final = 60
# Sockets that have not said anything yet cannot be answered: so many times the limit are borne, more are cut.
SILENT_FACTOR: Final = 2


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Handshakes a second with what may come at once, in all and from one address; sockets from one address.

    `address_per_s` 0: no limit of one address's own.
    """

    per_s: float
    burst: float
    address_sockets: int
    address_per_s: float
    address_burst: float


class _Entry:
    __slots__ = ("bucket", "sockets")

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self.sockets = 0


class Addresses:
    """What is known of each address; the empty one, of unknown origin, is never counted."""

    def __init__(self, per_s: float, burst: float, *, most: int = ADDRESSES_MAX) -> None:
        """Handshakes a second of each, with what may come at once; `per_s` 0: as many as come."""
        self._per_s = per_s
        self._burst = burst
        self._most = most
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def sockets(self, address: str) -> int:
        """Open sockets of the address."""
        entry = self._entries.get(address)
        return entry.sockets if entry is not None else 0

    def came(self, address: str, now: float) -> None:
        """A socket of the address is open."""
        if address:
            self._entry(address, now).sockets += 1

    def went(self, address: str) -> None:
        """One of its sockets is gone."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.sockets -= 1

    def take(self, address: str, now: float) -> bool:
        """Whether a handshake of the address may go on."""
        return not address or not self._per_s or self._entry(address, now).bucket.take(now) == 0.0

    def _entry(self, address: str, now: float) -> _Entry:
        entry = self._entries.get(address)
        if entry is None:
            self._make_room()
            entry = self._entries[address] = _Entry(TokenBucket(self._per_s, self._burst, now))
        else:
            self._entries.move_to_end(address)
        return entry

    def _make_room(self) -> None:
        # Those with open sockets stay: they are bounded by the sockets there may be. A few looks, not all of them.
        for _ in range(LOOKS_MAX):
            if len(self._entries) < self._most:
                return
            address, entry = next(iter(self._entries.items()))
            if entry.sockets > 0:
                self._entries.move_to_end(address)
            else:
                del self._entries[address]


class Admission:
    """Judged when a socket opens (`arrive`) and when its request is there (`judge`); `leave` when it is gone."""

    def __init__(self, limits: AdmissionLimits, proxies: TrustedProxies, now: float) -> None:
        self.addresses = Addresses(limits.address_per_s, limits.address_burst)
        self.proxies = proxies
        self._limits = limits
        self._all = TokenBucket(limits.per_s, limits.burst, now)
        self._backlog = 0.0
        self._backlog_at = now

    def __repr__(self) -> str:
        return f"Admission({len(self.addresses)} addresses, {self._backlog:.0f} sent away wait)"

    def arrive(self, peer: str, now: float) -> str | None:
        """A socket opened: the address it counts for, empty while that is unknown; None: cut it."""
        if not peer or self.proxies.trusts(peer):
            return ""
        address = address_key(peer)
        if self.addresses.sockets(address) >= SILENT_FACTOR * self._limits.address_sockets:
            return None
        self.addresses.came(address, now)
        return address

    def identify(self, peer: str, forwarded: list[str], now: float) -> str:
        """The request of a socket that a trusted proxy opened: the address it counts for."""
        address = self.proxies.client(peer, forwarded)
        self.addresses.came(address, now)
        return address

    def leave(self, address: str) -> None:
        """The socket is gone."""
        self.addresses.went(address)

    def judge(self, address: str, now: float) -> Refusal | None:
        """A request is there. An address over its own limits takes nothing from the others' share."""
        limits = self._limits
        if self.addresses.sockets(address) > limits.address_sockets:
            detail = "too many sockets are open from this address; close some"
            return Refusal("address-limited", detail, reason="address-sockets")
        if not self.addresses.take(address, now):
            return Refusal("address-limited", "too many handshakes from this address", reason="address-rate")
        if self._all.take(now) == 0.0:
            return None
        return Refusal(
            "crowded", "the hub takes as many handshakes as it can; come back later", retry_after_s=self._queue(now)
        )

    def _queue(self, now: float) -> tuple[int, int]:
        """Another one is sent away: between when and when it should come back."""
        drained = max(0.0, now - self._backlog_at) * self._limits.per_s
        self._backlog = max(0.0, self._backlog - drained) + 1.0
        self._backlog_at = now
        return 1, max(1, min(WAIT_MAX_S, ceil(self._backlog / self._limits.per_s)))
