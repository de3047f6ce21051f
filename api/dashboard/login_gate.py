"""How often somebody may try to sign in: so often from one address, and so often from all [pure].

Tokens cannot be guessed; this bounds what guessing costs the process. Addresses are remembered while they are short of
tries, at most a thousand of them; beyond that only the bound for all counts.
"""

from typing import Final

from shared.token_bucket import TokenBucket

__all__ = ["LoginGate"]

ADDRESSES_MAX: Final = 1000
BURST: Final = 10
PER_S: Final = 0.2
ALL_BURST: Final = 100
ALL_PER_S: Final = 5.0


class LoginGate:
    """`wait_s()` before a token is looked at; `failed()` when it was not good."""

    def __init__(self, now: float) -> None:
        self._all = TokenBucket(ALL_PER_S, ALL_BURST, now)
        self._by_address: dict[str, TokenBucket] = {}

    def __repr__(self) -> str:
        return f"LoginGate({len(self._by_address)} addresses, {self._all!r})"

    def __len__(self) -> int:
        return len(self._by_address)

    def wait_s(self, address: str, now: float) -> float:
        """0 when a try may be made now, else the seconds after which it may."""
        bucket = self._by_address.get(address)
        own_s = bucket.wait_s(now) if bucket is not None else 0.0
        return own_s or self._all.take(now)

    def failed(self, address: str, now: float) -> None:
        """A try from there was no good one."""
        bucket = self._by_address.get(address)
        if bucket is None:
            if len(self._by_address) >= ADDRESSES_MAX:
                self._forget_full(now)
            if len(self._by_address) >= ADDRESSES_MAX:
                return
            bucket = self._by_address[address] = TokenBucket(PER_S, BURST, now)
        bucket.take(now)

    def _forget_full(self, now: float) -> None:
        self._by_address = {name: one for name, one in self._by_address.items() if one.left(now) < one.burst}
