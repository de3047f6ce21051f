"""How often whom, from the environment; a base class of the API's settings."""

from dataclasses import dataclass
from typing import Final

from shared.protocol.ids import device_class_problem
from shared.rate_limits import Limits
from shared.settings import boolean, bounded_float, setting

__all__ = ["RateSettings"]

_CLASSES: Final = (("truck", 50.0), ("warehouse", 200.0), ("office", 500.0))
_per_minute = bounded_float(0, 6e7)


def _classes(raw: str) -> tuple[tuple[str, float], ...]:
    found: dict[str, float] = {}
    for part in raw.split(","):
        name, equals, figure = part.strip().partition("=")
        if not equals or device_class_problem(name) or name in found:
            raise ValueError("must be classes with figures, each once, such as truck=50,warehouse=200")
        found[name] = _per_minute(figure)
    return tuple(found.items())


@dataclass(frozen=True, kw_only=True)
class RateSettings:
    """Figures are tokens a minute, which is also how many a bucket holds; most requests cost one. 0: no limit."""

    rate_limits: bool = setting(
        "FLEETWIRE_API_RATE_LIMITS", True, help="Whether rates are limited: on or off.", parse=boolean
    )
    rate_classes: tuple[tuple[str, float], ...] = setting(
        "FLEETWIRE_API_RATE_CLASSES",
        _CLASSES,
        help="Requests a minute for a device of a class: truck=50,warehouse=200,office=500.",
        parse=_classes,
    )
    rate_device: float = setting(
        "FLEETWIRE_API_RATE_DEVICE",
        100.0,
        help="Requests a minute for a device of another class, or none.",
        parse=_per_minute,
    )
    rate_operator: float = setting(
        "FLEETWIRE_API_RATE_OPERATOR", 600.0, help="Requests a minute for an operator.", parse=_per_minute
    )
    rate_service: float = setting(
        "FLEETWIRE_API_RATE_SERVICE", 6000.0, help="Requests a minute for a service.", parse=_per_minute
    )
    rate_all_per_s: float = setting(
        "FLEETWIRE_API_RATE_ALL_PER_S",
        1000.0,
        help="Requests a second of all principals at all instances together.",
        parse=bounded_float(0, 1e6),
    )
    rate_redis_s: float = setting(
        "FLEETWIRE_API_RATE_REDIS_S",
        0.25,
        help="How long Redis may take to answer; then each instance limits by itself for a while.",
        parse=bounded_float(0.01, 5),
    )
    rate_probe_s: float = setting(
        "FLEETWIRE_API_RATE_PROBE_S",
        0.5,
        help="How often a Redis that was away is asked whether it is back.",
        parse=bounded_float(0.01, 60),
    )
    instance_s: float = setting(
        "FLEETWIRE_API_INSTANCE_S",
        3.0,
        help="How often an API process says that it lives.",
        parse=bounded_float(0.05, 300),
    )

    def limits(self) -> Limits | None:
        """The figures; None when rates are not limited."""
        if not self.rate_limits:
            return None
        return Limits(
            dict(self.rate_classes),
            self.rate_device,
            self.rate_operator,
            self.rate_service,
            all_per_s=self.rate_all_per_s,
        )
