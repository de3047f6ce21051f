"""How many hubs: what Kubernetes' horizontal autoscaler does with `sum(connections)` and a target average. Pure.

One number decides, the total over all hubs divided by the target; who is connected where does not matter. So a
constant load has one answer, and what was decided is not undone while devices move to a hub that was added for them.
A hub that cannot be read is no empty hub: while one is missing nothing is removed, and it adds nothing to the total.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from infra.scaling.steadiness import TOLERANCE, Steadiness, Step

__all__ = ["TARGET", "TOLERANCE", "Autoscaler", "Decision", "Reading", "Rules", "Step", "desired_hubs"]

# A hub of the target on average may take a tenth more before another is added: 360 gives 396, which is the signal of
# 400 a hub.
TARGET: Final = 360


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The numbers of infra/k8s. `quiet_s` is the time over which the highest answer counts before hubs are removed."""

    target: int = TARGET
    tolerance: float = TOLERANCE
    hubs_min: int = 2
    hubs_max: int = 20
    quiet_s: float = 600.0
    up: Step = field(default=Step(2, 60.0))
    down: Step = field(default=Step(1, 120.0))

    def __post_init__(self) -> None:
        if not (1 <= self.hubs_min <= self.hubs_max and self.target >= 1 and 0 <= self.tolerance < 1):
            raise ValueError(f"rules that contradict themselves: {self}")


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of one hub. `connections` is None when it could not be read, or was read too long ago.

    A hub that is leaving is no hub any more, but its devices still need one, so they count.
    """

    hub: str
    connections: int | None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """How many hubs there should be, of how many, and why, for people."""

    hubs: int
    current: int
    total: int
    why: str

    @property
    def change(self) -> int:
        """Hubs to add, or to remove when negative."""
        return self.hubs - self.current


def desired_hubs(total: int, current: int, *, target: int, tolerance: float) -> int:
    """Enough for `target` each; as many as there are while their average is within the tolerance of it."""
    if current > 0:
        ratio = total / (target * current)
        if 1.0 - tolerance <= ratio <= 1.0 + tolerance:
            return current
    return math.ceil(total / target)


class Autoscaler:
    """Asked every few seconds."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._steadiness = Steadiness(
            least=rules.hubs_min, most=rules.hubs_max, quiet_s=rules.quiet_s, up=rules.up, down=rules.down
        )

    def __repr__(self) -> str:
        return f"Autoscaler({self.rules}, {self._steadiness!r})"

    def changed(self, hubs: int, now: float) -> None:
        """So many hubs were added, or removed when negative."""
        self._steadiness.changed(hubs, now)

    def decide(self, readings: Sequence[Reading], now: float) -> Decision:
        """What to do now, with a reading for every hub that should be there."""
        rules = self.rules
        current = sum(not reading.leaving for reading in readings)
        missing = [reading.hub for reading in readings if reading.connections is None]
        total = sum(reading.connections or 0 for reading in readings)
        wished = desired_hubs(total, current, target=rules.target, tolerance=rules.tolerance)
        held = max(wished, current) if missing else wished
        hubs = self._steadiness.settle(held, current, now)
        return Decision(hubs, current, total, self._why(total, current, hubs, wished, missing))

    def _why(self, total: int, current: int, hubs: int, wished: int, missing: Sequence[str]) -> str:
        rules = self.rules
        average = total / current if current else 0.0
        said = f"{total} devices on {_hubs(current)}, {average:.0f} each (target {rules.target})"
        if missing:
            said += f"; no answer from {', '.join(missing)}"
        if hubs != wished:
            bounds = (
                "the most"
                if wished > rules.hubs_max and hubs == rules.hubs_max
                else "the fewest"
                if wished < rules.hubs_min and hubs == rules.hubs_min
                else ""
            )
            said += f"; {_hubs(wished)} would do, {f'{hubs} is {bounds}' if bounds else f'{hubs} for now'}"
        return said


def _hubs(count: int) -> str:
    return f"{count} hub{'' if count == 1 else 's'}"
