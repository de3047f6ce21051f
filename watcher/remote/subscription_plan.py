"""Subscriptions of a feed: when one is made, renewed, doubted and ended [pure].

What stands is in the feed's row, written under the term. An id is ended at the provider only after the row says that it
is retired, so nobody ends what another relies on; one whose owner died before the row knew of it ends by itself. That
one is about to be made stands in the row first, so that owners who die in between do not make one after the other.
Times are wall-clock seconds, since a provider gives them.
"""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from shared.cloud.provider import Subscription

_RETIRED_MAX: Final = 50
_PENDING_S: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What the row holds. `made_at`: when the active one was made or renewed; `pending_at`: one is being made since."""

    active: Subscription | None = None
    made_at: float = 0.0
    address: str = ""
    pending_at: float = 0.0
    retired: tuple[Subscription, ...] = ()


@dataclass(frozen=True, slots=True)
class Reserve:
    """Say in the row that one is about to be made, then make it."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class Renew:
    """Have the active one last longer."""

    active: Subscription


@dataclass(frozen=True, slots=True)
class Retire:
    """Say in the row that the active one is retired."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class End:
    """End a retired one at the provider."""

    retired: Subscription


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until then (seconds of the wall clock)."""

    until: float


Task: TypeAlias = Reserve | Renew | Retire | End | Rest


def plan(standing: Standing, now: float, *, address: str | None, lifetime_s: float, doubted: bool) -> Task:
    """The next thing to do. Without an `address` the provider is not to call us.

    What is retired is ended when nothing else is due: it must not keep the active one from being renewed.
    """
    task = _plan_active(standing, now, address, lifetime_s, doubted=doubted)
    if isinstance(task, Rest) and standing.retired:
        return End(standing.retired[0])
    return task


def _plan_active(standing: Standing, now: float, address: str | None, lifetime_s: float, *, doubted: bool) -> Task:
    active = standing.active
    if address is None:
        return Retire(_retired(standing)) if active is not None else Rest(now + 3600.0)
    if active is not None and standing.address != address:
        return Retire(_retired(standing))
    if active is None or active.expires_at <= now:
        begun = standing.pending_at
        if begun <= now < begun + _PENDING_S:
            return Rest(begun + _PENDING_S)
        return Reserve(replace(_retired(standing), pending_at=now))
    # As soon as half of its life is over, so that many failures in a row do no harm.
    lasts = min(lifetime_s, active.expires_at - standing.made_at)
    renew_at = active.expires_at - lasts / 2
    return Renew(active) if doubted or now >= renew_at else Rest(renew_at)


def made(standing: Standing, new: Subscription, now: float, address: str) -> Standing:
    """One was made, or renewed: when it has another id, the one before is retired."""
    before = standing.active
    if before is not None and before.subscription_id != new.subscription_id:
        standing = _retired(standing)
    return replace(standing, active=new, made_at=now, address=address, pending_at=0.0)


def ended(standing: Standing, retired: Subscription) -> Standing:
    """A retired one was ended."""
    left = tuple(one for one in standing.retired if one.subscription_id != retired.subscription_id)
    return replace(standing, retired=left)


def lost(standing: Standing) -> Standing:
    """The provider does not know the active one any more: there is nothing to end."""
    return replace(standing, active=None, pending_at=0.0)


def _retired(standing: Standing) -> Standing:
    if standing.active is None:
        return standing
    retired = (*standing.retired, standing.active)[-_RETIRED_MAX:]
    return replace(standing, active=None, retired=retired)
