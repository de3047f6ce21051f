"""Settings of `fleetwire up --autoscale`. The steps are the cluster's, counted in looks: it looks every 15 seconds."""

from dataclasses import dataclass
from typing import Final

from infra.scaling.policy import TARGET, Rules, Step
from shared.settings import bounded_float, bounded_int, setting

__all__ = ["ScaleSettings"]

_UP_LOOKS: Final = 4
_DOWN_LOOKS: Final = 8
_HUBS: Final = bounded_int(1, 64)


@dataclass(frozen=True, kw_only=True)
class ScaleSettings:
    """How the number of hubs follows the devices on one machine."""

    target: int = setting(
        "FLEETWIRE_SCALE_TARGET",
        TARGET,
        help="Devices for each hub; a tenth more on average adds one.",
        parse=bounded_int(1, 100_000),
    )
    hubs_min: int = setting("FLEETWIRE_SCALE_MIN", 1, help="Fewest hubs.", parse=_HUBS)
    hubs_max: int = setting("FLEETWIRE_SCALE_MAX", 8, help="Most hubs.", parse=_HUBS)
    quiet_s: float = setting(
        "FLEETWIRE_SCALE_QUIET_S",
        60.0,
        help="Seconds for which fewer must do before a hub is removed.",
        parse=bounded_float(0, 86400),
    )
    period_s: float = setting(
        "FLEETWIRE_SCALE_PERIOD_S", 5.0, help="Seconds between two looks.", parse=bounded_float(0.05, 3600)
    )

    def check(self) -> list[str]:
        """What contradicts itself."""
        if self.hubs_min > self.hubs_max:
            return [f"FLEETWIRE_SCALE_MIN={self.hubs_min} is wrong: it is above FLEETWIRE_SCALE_MAX={self.hubs_max}"]
        return []

    def rules(self) -> Rules:
        """For the policy."""
        return Rules(
            target=self.target,
            hubs_min=self.hubs_min,
            hubs_max=self.hubs_max,
            quiet_s=self.quiet_s,
            up=Step(2, _UP_LOOKS * self.period_s),
            down=Step(1, _DOWN_LOOKS * self.period_s),
        )
