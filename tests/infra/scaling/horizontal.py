"""The cluster's horizontal autoscaler, step by step as its documentation has it, driven by a manifest.

Every 15 s: a metric's answer is the total divided by the target, rounded up, unless the average is within the tolerance
of the target. The largest answer of all metrics counts; one that cannot be had keeps the others from taking away. The
answer is then held against those of the stabilization windows (the smallest of the one for up, the largest of the one
for down), against the policies, which allow so many pods in so many seconds, and against the bounds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

SYNC_S: Final = 15.0
TOLERANCE: Final = 0.1
# What the cluster assumes where a manifest says nothing.
_UP: Final = {
    "stabilizationWindowSeconds": 0,
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_DOWN: Final = {"stabilizationWindowSeconds": 300, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


@dataclass
class Horizontal:
    """One autoscaler. `targets` are averages for each pod, one of each metric."""

    least: int
    most: int
    behavior: dict[str, Any]
    targets: Sequence[float]
    tolerance: float = TOLERANCE
    _answers: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    @classmethod
    def of(cls, scaled_object: dict[str, Any]) -> "Horizontal":
        """The one that KEDA makes of a ScaledObject whose triggers are average values."""
        spec = scaled_object["spec"]
        assert all(trigger["metricType"] == "AverageValue" for trigger in spec["triggers"])
        names = {"prometheus": "threshold", "redis-streams": "lagCount", "redis-cluster-streams": "lagCount"}
        return cls(
            # KEDA itself goes from none to one and back; its autoscaler has one at least.
            least=max(1, spec["minReplicaCount"]),
            most=spec["maxReplicaCount"],
            behavior=spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
            targets=[float(trigger["metadata"][names[trigger["type"]]]) for trigger in spec["triggers"]],
        )

    def step(self, now: float, current: int, totals: Sequence[float | None]) -> int:
        """How many pods it asks for. A total that is None could not be had."""
        if not self._answers:
            # What there is counts as the first answer.
            self._answers.append((now, current))
        answers = [
            self._wished(current, total, target)
            for total, target in zip(totals, self.targets, strict=True)
            if total is not None
        ]
        if not answers or (len(answers) < len(self.targets) and max(answers) < current):
            return current
        wished = max(answers)
        held = self._stabilized(now, current, wished)
        allowed = self._allowed(now, current, held)
        bounded = min(max(allowed, self.least), self.most)
        if bounded != current:
            self._changes.append((now, bounded - current))
        return bounded

    def _wished(self, current: int, total: float, target: float) -> int:
        ratio = total / (target * current)
        return current if abs(ratio - 1.0) <= self.tolerance else math.ceil(total / target)

    def _stabilized(self, now: float, current: int, wished: int) -> int:
        up, down = wished, wished
        for at, answer in self._answers:
            if at > now - self._rules("scaleUp")["stabilizationWindowSeconds"]:
                up = min(up, answer)
            if at > now - self._rules("scaleDown")["stabilizationWindowSeconds"]:
                down = max(down, answer)
        self._answers.append((now, wished))
        return min(max(current, up), down)

    def _allowed(self, now: float, current: int, wished: int) -> int:
        if wished > current:
            limits = [
                before + policy["value"]
                if policy["type"] == "Pods"
                else math.ceil(before * (1 + policy["value"] / 100))
                for policy, before in self._periods(now, current, "scaleUp")
            ]
            return min(wished, max([current, *limits])) if limits else current
        if wished < current:
            limits = [
                before - policy["value"]
                if policy["type"] == "Pods"
                else math.floor(before * (1 - policy["value"] / 100))
                for policy, before in self._periods(now, current, "scaleDown")
            ]
            return max(wished, min([current, *limits])) if limits else current
        return current

    def _periods(self, now: float, current: int, direction: str) -> list[tuple[dict[str, Any], int]]:
        """Each policy with how many there were when its period began."""
        rules = self._rules(direction)
        if rules.get("selectPolicy") == "Disabled":
            return []
        assert rules.get("selectPolicy", "Max") == "Max"
        return [
            (policy, current - sum(change for at, change in self._changes if at > now - policy["periodSeconds"]))
            for policy in rules["policies"]
        ]

    def _rules(self, direction: str) -> dict[str, Any]:
        default = _UP if direction == "scaleUp" else _DOWN
        return {**default, **self.behavior.get(direction, {})}
