"""Latency percentiles without keeping every sample: exact counts in buckets 1 % wide."""

import math
from collections import Counter
from collections.abc import Iterable

__all__ = ["Latencies"]

_RATIO = math.log(1.01)


class Latencies:
    """Samples in milliseconds, from a microsecond to hours, each known to within 1 %."""

    def __init__(self, samples_ms: Iterable[float] = ()) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.max_ms = 0.0
        for sample in samples_ms:
            self.add(sample)

    def add(self, sample_ms: float) -> None:
        """One sample; what is below a microsecond counts as one."""
        self._buckets[round(math.log(max(sample_ms, 0.001)) / _RATIO)] += 1
        self.count += 1
        self.max_ms = max(self.max_ms, sample_ms)

    def merge(self, other: "Latencies") -> None:
        """Take over the samples of another run."""
        self._buckets.update(other._buckets)
        self.count += other.count
        self.max_ms = max(self.max_ms, other.max_ms)

    def percentile(self, percent: float) -> float:
        """The value that `percent` of the samples do not exceed; NaN when there is none."""
        if not self.count:
            return math.nan
        wanted = math.ceil(self.count * percent / 100)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(math.exp(bucket * _RATIO), self.max_ms)
        return self.max_ms

    def summary(self) -> dict[str, float]:
        """Count, p50, p90, p99, p99.9 and max, in milliseconds."""
        values = {f"p{percent:g}_ms": round(self.percentile(percent), 3) for percent in (50, 90, 99, 99.9)}
        return {"count": self.count, **values, "max_ms": round(self.max_ms, 3)}

    def __str__(self) -> str:
        if not self.count:
            return "no samples"
        parts = ", ".join(f"p{percent:g} {self.percentile(percent):.2f}" for percent in (50, 90, 99, 99.9))
        return f"{parts}, max {self.max_ms:.2f} ms over {self.count:,}"
