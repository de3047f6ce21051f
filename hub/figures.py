"""What a hub says of itself to whoever draws it: a few sums, and what it knows of single devices.

Buckets are counted since the start, as in the metrics; whoever asks twice takes the difference. Nothing is counted for
the sake of being shown.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hub.connection import Connection
from hub.registry import Registry
from shared.telemetry.metrics import HUB_ACKS, HUB_EVENTS_SENT, STAGE_LAG_SECONDS

__all__ = ["DEVICES_MAX", "devices", "figures"]

DEVICES_MAX: Final = 500


def figures() -> dict[str, Any]:
    """Events and acks since the start, and for each stage how many events took at most so many seconds to it."""
    bounds: list[float] = []
    stages: dict[str, list[int]] = {}
    for metric in STAGE_LAG_SECONDS.collect():
        for sample in metric.samples:
            if sample.name.endswith("_bucket"):
                counts = stages.setdefault(sample.labels["stage"], [])
                counts.append(int(sample.value))
                bound = float(sample.labels["le"])
                if len(bounds) < len(counts) and bound != float("inf"):
                    bounds.append(bound)
    return {
        "sent": _sum(HUB_EVENTS_SENT.collect()),
        "acks": _sum(HUB_ACKS.collect()),
        "bounds": bounds,
        "stages": stages,
    }


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
