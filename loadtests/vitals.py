"""What must stay flat in a long run: memory, descriptors and tasks of processes, as their operations ports say them.

Flat means: over the second half of the run the fitted line rises by less than the scatter around it, or by less than a
floor that no leak worth finding stays under for long.
"""

import statistics
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["FLOORS", "Series", "read_vitals", "rises", "rising", "vitals_in"]

FLOORS: Final[Mapping[str, float]] = {"rss_mib": 8.0, "descriptors": 10.0, "threads": 4.0, "tasks": 10.0}
_NAMES: Final = {
    "process_resident_memory_bytes": ("rss_mib", 1 / 2**20),
    "process_open_fds": ("descriptors", 1.0),
    "fleetwire_process_tasks": ("tasks", 1.0),
}
_ANSWER_DEADLINE_S: Final = 2.0


@dataclass
class Series:
    """Samples of one quantity of one process, over seconds."""

    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, at_s: float, value: float) -> None:
        """One sample."""
        self.seconds.append(at_s)
        self.values.append(value)


def rises(seconds: Sequence[float], values: Sequence[float], floor: float) -> bool:
    """Whether the second half of a series rises by more than its scatter and more than `floor`."""
    half = len(values) // 2
    xs, ys = seconds[half:], values[half:]
    if len(ys) < 4 or xs[-1] == xs[0]:
        return False
    slope, intercept = statistics.linear_regression(xs, ys)
    rise = slope * (xs[-1] - xs[0])
    scatter = statistics.pstdev(y - (slope * x + intercept) for x, y in zip(xs, ys, strict=True))
    return rise > max(floor, 2 * scatter)


def rising(series: Mapping[str, Series]) -> list[str]:
    """The names, `process quantity`, of those that rise."""
    return [name for name, one in series.items() if rises(one.seconds, one.values, FLOORS[name.split()[-1]])]


def vitals_in(metrics: str) -> dict[str, float]:
    """The quantities in a page of metrics."""
    found = {}
    for line in metrics.splitlines():
        name, _, value = line.partition(" ")
        if name in _NAMES:
            what, factor = _NAMES[name]
            found[what] = float(value) * factor
    return found


def read_vitals(ops_port: int, token: str | None = None) -> dict[str, float]:
    """Those of one process; none when it does not answer in time."""
    request = urllib.request.Request(f"http://127.0.0.1:{ops_port}/metrics")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_DEADLINE_S) as answer:
            return vitals_in(answer.read().decode())
    except (OSError, urllib.error.URLError, ValueError):
        return {}
