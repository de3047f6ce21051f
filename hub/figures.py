"""What a hub says of itself to whoever draws it: a few sums, and what it knows of single devices.

Buckets are counted since the start, as in the metrics; whoever asks twice takes the difference. Nothing is counted for
the sake of being shown.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import Histogram

from hub.connection import Connection
from hub.registry import Registry
from shared.telemetry.metrics import HUB_ACKS, HUB_DELIVERY_SECONDS, HUB_EVENTS_SENT, STAGE_LAG_SECONDS

__all__ = ["DEVICES_MAX", "devices", "figures"]

DEVICES_MAX: Final = 500


def figures() -> dict[str, Any]:
    """Events and acks since the start; for each stage, and from recorded to acked, how many took at most so long."""
    bounds, stages = _buckets(STAGE_LAG_SECONDS, "stage")
    delivery_bounds, delivery = _buckets(HUB_DELIVERY_SECONDS, None)
    return {
        "sent": _sum(HUB_EVENTS_SENT.collect()),
        "acks": _sum(HUB_ACKS.collect()),
        "bounds": bounds,
        "stages": stages,
        "delivery": {"bounds": delivery_bounds, "counts": delivery.get("", [])},
    }


def _buckets(histogram: Histogram, label: str | None) -> tuple[list[float], dict[str, list[int]]]:
    """The upper bounds of all buckets but the last, and the cumulative counts by the value of the label."""
    bounds: list[float] = []
    found: dict[str, list[int]] = {}
    for metric in histogram.collect():
        for sample in metric.samples:
            if sample.name.endswith("_bucket"):
                counts = found.setdefault("" if label is None else sample.labels[label], [])
                counts.append(int(sample.value))
                bound = float(sample.labels["le"])
                if len(bounds) < len(counts) and bound != float("inf"):
                    bounds.append(bound)
    return bounds, found


def devices(registry: Registry[Connection], wanted: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Those of the devices that are connected here: how far they are, and how long an answer of theirs takes."""
    found: dict[str, Mapping[str, Any]] = {}
    for device_id in wanted:
        connection = registry.get(device_id)
        if connection is not None:
            found[device_id] = connection.seen()
    return found


def _sum(metrics: Iterable[Any]) -> int:
    return int(sum(sample.value for metric in metrics for sample in metric.samples if sample.name.endswith("_total")))
