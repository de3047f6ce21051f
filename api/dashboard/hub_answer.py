"""What a hub answers about itself, checked before anything is drawn of it [pure].

Hubs may be of another version than the API: what they say beyond this is left out, what an older one does not say has a
default.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

__all__ = ["Buckets", "Figures", "HubState", "Moving", "SeenDevice", "WrongAnswer", "read_state"]


class WrongAnswer(ValueError):
    """The answer is none of a hub."""


class Moving(Struct, frozen=True):
    """Devices that are being sent on."""

    left: int = 0
    done: int = 0
    leaving: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    rate: float = 0.0
    eta_s: float | None = None
    paused: bool = False
    held: bool = False


class SeenDevice(Struct, frozen=True):
    """A device that is connected there."""

    sent: int
    acked: int
    rtt_ms: float = 0.0
    behind: bool = False
    moving: bool = False


class Buckets(Struct, frozen=True):
    """A histogram: cumulative counts, one more than there are bounds."""

    bounds: Sequence[float] = ()
    counts: Sequence[int] = ()


class Figures(Struct, frozen=True):
    """Sums since the hub began."""

    sent: int = 0
    acks: int = 0
    bounds: Sequence[float] = ()
    stages: Mapping[str, Sequence[int]] = field(default_factory=dict)
    delivery: Buckets = field(default_factory=Buckets)


class HubState(Struct, frozen=True):
    """How a hub stands."""

    phase: str
    connections: int
    capacity: int
    not_ready: Sequence[str] = ()
    bus: str = "ok"
    own: int = 0
    strangers: int = 0
    view: Mapping[str, str] = field(default_factory=dict)
    view_settled: bool = True
    moving: Moving = field(default_factory=Moving)
    figures: Figures = field(default_factory=Figures)
    devices: Mapping[str, SeenDevice] = field(default_factory=dict)


def read_state(answer: Any) -> HubState:
    """Raises WrongAnswer."""
    try:
        return msgspec.convert(answer, HubState)
    except msgspec.ValidationError as error:
        raise WrongAnswer(str(error)) from None
