"""How many workers a queue has: what Kubernetes' horizontal autoscaler does with the jobs that wait and a target. Pure.

Three workers for up to a hundred waiting jobs, then one more for every thirty, ten at most; fewer only after a quiet
time. Each queue is decided on by its own depth. A depth that cannot be read is not zero: then the number stays, and the
quiet time begins anew.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from infra.scaling.steadiness import TOLERANCE, Steadiness, Step

__all__ = [
    "WAITING_TARGET",
    "WORKERS_MAX",
    "WorkerDecision",
    "WorkerRules",
    "WorkerScaler",
    "desired_workers",
]

WORKERS_MAX: Final = 20
"""Of one queue on one machine, where each has a port of its own."""

# The tenth around the target belongs to it: three workers at 30 each hold still up to 99, and 100 add the fourth.
WAITING_TARGET: Final = 30


@dataclass(frozen=True, kw_only=True)
class WorkerRules:
    """The numbers of infra/k8s. Unlike a hub, a worker goes at no cost to a device: so it may go sooner."""

    target: int = WAITING_TARGET
    tolerance: float = TOLERANCE
    workers_min: int = 3
    workers_max: int = 10
    quiet_s: float = 300.0
    up: Step = field(default=Step(4, 30.0))
    down: Step = field(default=Step(1, 60.0))

    def __post_init__(self) -> None:
        if not (1 <= self.workers_min <= self.workers_max and self.target >= 1 and 0 <= self.tolerance < 1):
            raise ValueError(f"rules that contradict themselves: {self}")


@dataclass(frozen=True, slots=True)
class WorkerDecision:
    """How many workers there should be, of how many, and why, for people."""

    workers: int
    current: int
    waiting: int | None
    why: str

    @property
    def change(self) -> int:
        """Workers to add, or to remove when negative."""
        return self.workers - self.current


def desired_workers(waiting: int, current: int, *, target: int, tolerance: float) -> int:
    """Enough for `target` each; as many as there are while their average is within the tolerance of it."""
    if current > 0 and 1.0 - tolerance <= waiting / (target * current) <= 1.0 + tolerance:
        return current
    return math.ceil(waiting / target)


class WorkerScaler:
    """Of one queue; asked every few seconds."""

    def __init__(self, queue: str, rules: WorkerRules) -> None:
        self.queue = queue
        self.rules = rules
        self._steadiness = Steadiness(
            least=rules.workers_min, most=rules.workers_max, quiet_s=rules.quiet_s, up=rules.up, down=rules.down
        )

    def __repr__(self) -> str:
        return f"WorkerScaler({self.queue}, {self.rules}, {self._steadiness!r})"

    def changed(self, workers: int, now: float) -> None:
        """So many workers were added, or removed when negative."""
        self._steadiness.changed(workers, now)

    def decide(self, waiting: int | None, current: int, now: float) -> WorkerDecision:
        """What to do now, with `waiting` jobs that could run; None when that could not be read."""
        rules = self.rules
        if waiting is None:
            workers = self._steadiness.settle(current, current, now)
            return WorkerDecision(workers, current, None, f"nobody knows how many jobs wait in {self.queue}")
        wished = desired_workers(waiting, current, target=rules.target, tolerance=rules.tolerance)
        workers = self._steadiness.settle(wished, current, now)
        wait = "job waits" if waiting == 1 else "jobs wait"
        why = f"{waiting} {wait} in {self.queue}, {_workers(current)} (target {rules.target} each)"
        if workers != wished:
            bound = ""
            if wished > rules.workers_max and workers == rules.workers_max:
                bound = " is the most"
            elif wished < rules.workers_min and workers == rules.workers_min:
                bound = " is the fewest"
            why += f"; {_workers(wished)} would do, {workers}{bound or ' for now'}"
        return WorkerDecision(workers, current, waiting, why)


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"
