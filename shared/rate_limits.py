"""How often whom: which token bucket a principal has, and what is told of it. Pure; the buckets themselves are in Redis
(`shared.bus.token_buckets`) or, while that is away, in each process (`LocalBuckets`).

A bucket holds `per_minute` tokens and is filled by a sixtieth of that each second, so a principal that was quiet may
send a minute's worth at once. A device's class names its bucket; operators, services and classes without a figure of
their own have the defaults.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.token_bucket import TokenBucket

__all__ = ["GLOBAL", "Asked", "Limit", "Limits", "LocalBuckets", "Verdict", "policy_field", "quota_field"]

GLOBAL: Final = "global"
WINDOW_S: Final = 60
_PRINCIPALS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket's size and filling. `name` is for clients, metrics and messages."""

    name: str
    capacity: float
    per_s: float

    @property
    def token_us(self) -> int:
        """Microseconds in which one token comes: whole ones, so that adding them up loses nothing."""
        return max(1, round(1e6 / self.per_s))

    def share(self, instances: int) -> "Limit":
        """What one of so many instances enforces alone; never less than one token at a time."""
        return Limit(self.name, max(1.0, self.capacity / instances), self.per_s / instances)


@dataclass(frozen=True, slots=True)
class Limits:
    """The figures: a minute's worth for each class of devices and for each kind of principal, and for all in a second.

    0 is no limit.
    """

    classes: Mapping[str, float]
    device: float
    operator: float
    service: float
    all_per_s: float

    def of(self, kind: str, device_class: str | None) -> Limit | None:
        """The bucket of a principal of this kind (device, operator, service), None when it has none."""
        name, per_minute = kind, self.service
        if kind == "device":
            name, per_minute = kind, self.device
            if device_class is not None and device_class in self.classes:
                name, per_minute = device_class, self.classes[device_class]
        elif kind == "operator":
            per_minute = self.operator
        return Limit(name, per_minute, per_minute / WINDOW_S) if per_minute > 0 else None

    @property
    def shared(self) -> Limit | None:
        """The bucket that all principals share: a second's worth."""
        return Limit(GLOBAL, self.all_per_s, self.all_per_s) if self.all_per_s > 0 else None


class Asked(NamedTuple):
    """What one request asks of its bucket. No limit: only the shared bucket is asked."""

    principal: str
    limit: Limit | None
    cost: float


class Verdict(NamedTuple):
    """`refused_by` is the limit that has no room for it, None when it may happen; `wait_s` after which it will have.

    `left` are the tokens in the principal's own bucket.
    """

    refused_by: str | None
    left: float
    wait_s: float


class _Left(NamedTuple):
    tokens: float
    at: float


class LocalBuckets:
    """This process's share of every limit. Bounded: of too many principals, those not heard for longest are forgotten,
    which gives them a full bucket when they come back.

    While the buckets are in Redis, `learn()` what it says of principals that have spent more than half: their shares
    begin with their part of what was left, so that losing Redis does not give them everything anew.
    """

    def __init__(self, *, principals_max: int = _PRINCIPALS_MAX) -> None:
        self._principals_max = principals_max
        self._buckets: OrderedDict[str, tuple[Limit, TokenBucket]] = OrderedDict()
        self._learnt: OrderedDict[str, _Left] = OrderedDict()
        self._shared: tuple[Limit, TokenBucket] | None = None

    def __len__(self) -> int:
        return len(self._buckets)

    def __repr__(self) -> str:
        return f"LocalBuckets({len(self)} of {self._principals_max}, {len(self._learnt)} spent half)"

    def learn(self, asked: Asked, left: float, now: float) -> None:
        """So many tokens are left in the principal's own bucket, which is elsewhere."""
        if asked.limit is None:
            return
        self._buckets.pop(asked.principal, None)
        self._learnt.pop(asked.principal, None)
        if left < asked.limit.capacity / 2:
            self._learnt[asked.principal] = _Left(left, now)
            if len(self._learnt) > self._principals_max:
                self._learnt.popitem(last=False)

    def take(self, asked: Asked, shared: Limit | None, now: float, *, instances: int) -> Verdict:
        """Take the cost from the principal's bucket and from the shared one, or from neither."""
        own = self._own(asked, now, instances) if asked.limit is not None else None
        cost = 0.0
        if own is not None:
            cost = min(asked.cost, own.burst)
            if (wait_s := own.wait_s(now, cost)) > 0:
                assert asked.limit is not None
                return Verdict(asked.limit.name, own.left(now), wait_s)
        if shared is not None:
            bucket = self._shared_bucket(shared.share(instances), now)
            if wait_s := bucket.take(now, min(asked.cost, bucket.burst)):
                return Verdict(shared.name, own.left(now) if own is not None else 0.0, wait_s)
        if own is not None:
            own.take(now, cost)
        return Verdict(None, own.left(now) if own is not None else 0.0, 0.0)

    def _own(self, asked: Asked, now: float, instances: int) -> TokenBucket:
        assert asked.limit is not None
        limit = asked.limit.share(instances)
        known = self._buckets.pop(asked.principal, None)
        bucket = _bucket(known, limit, now)
        if known is None and (learnt := self._learnt.pop(asked.principal, None)) is not None:
            whole = asked.limit
            left = learnt.tokens + max(0.0, now - learnt.at) * whole.per_s
            bucket.take(now, limit.capacity * max(0.0, 1.0 - left / whole.capacity))
        self._buckets[asked.principal] = (limit, bucket)
        while len(self._buckets) > self._principals_max:
            self._buckets.popitem(last=False)
        return bucket

    def _shared_bucket(self, limit: Limit, now: float) -> TokenBucket:
        bucket = _bucket(self._shared, limit, now)
        self._shared = (limit, bucket)
        return bucket


def _bucket(known: tuple[Limit, TokenBucket] | None, limit: Limit, now: float) -> TokenBucket:
    """The bucket as it was, or one of the new size when the share has changed, no fuller than the old one was."""
    if known is None:
        return TokenBucket(limit.per_s, limit.capacity, now)
    before, bucket = known
    if before == limit:
        return bucket
    made = TokenBucket(limit.per_s, limit.capacity, now)
    made.take(now, max(0.0, limit.capacity - bucket.left(now)))
    return made


def policy_field(limit: Limit) -> str:
    """RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-11)."""
    return f'"{limit.name}";q={math.floor(limit.capacity)};w={max(1, round(limit.capacity / limit.per_s))}'


def quota_field(limit: Limit, verdict: Verdict) -> str:
    """RateLimit: whole tokens that are left, and for how many seconds there will be no more than those."""
    left = max(0, math.floor(verdict.left))
    own = verdict.refused_by == limit.name
    until_next_s = verdict.wait_s if own else (left + 1 - verdict.left) / limit.per_s
    return f'"{limit.name}";r={0 if own else left};t={math.ceil(until_next_s)}'
