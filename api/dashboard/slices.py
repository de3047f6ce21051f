"""What was read, as the values that viewers are shown [pure].

Lean on purpose: numbers that change with every look and tell nothing, such as ages in milliseconds, are rounded, so
that what stands still is not sent again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from api.dashboard.hub_answer import HubState
from api.dashboard.state import DEVICE, rounded
from shared.hash_slots import SLOTS, owner
from shared.store.fleet_view import Census, DeviceRow, FeedGroup, SeenHub, StageTimes
from shared.store.queues import QueueState

__all__ = [
    "Asked",
    "Rates",
    "device_values",
    "feed_values",
    "hub_values",
    "queue_values",
    "slots_of",
    "stage_value",
    "total_value",
]

_BAD: Final = frozenset({"deaf", "degraded", "doubt"})


@dataclass(slots=True)
class Asked:
    """What one hub answered, or why it did not."""

    state: HubState | None = None
    trouble: str | None = None


@dataclass(slots=True)
class Rates:
    """How much counts that only rise grow in a second, all runs of processes together."""

    _before: dict[str, tuple[float, float]] = field(default_factory=dict)
    _rates: dict[str, float] = field(default_factory=dict)

    def saw(self, run: str, count: float, now: float) -> None:
        """The count of one run. It grew by nothing the first time, and when it began anew."""
        then, before = self._before.get(run, (now, count))
        self._before[run] = (now, count)
        self._rates[run] = max(0.0, count - before) / (now - then) if now > then else 0.0

    @property
    def per_s(self) -> float:
        """Of all together, each as it was seen last."""
        return sum(self._rates.values())

    def keep(self, runs: frozenset[str]) -> None:
        """Forget the others."""
        self._before = {run: told for run, told in self._before.items() if run in runs}
        self._rates = {run: rate for run, rate in self._rates.items() if run in runs}


def slots_of(names: Iterable[str]) -> Mapping[str, int]:
    """How many slots each of the hubs owns, among themselves."""
    hubs = sorted(names)
    return Counter(owner(slot, hubs) or "" for slot in range(SLOTS)) if hubs else {}


def hub_values(
    seen: Sequence[SeenHub], asked: Mapping[str, Asked], slots: Mapping[str, int], *, silence_s: float
) -> dict[str, Any]:
    """One value for each hub."""
    return {f"hub/{hub.row.name}": _hub(hub, asked.get(hub.row.name), slots, silence_s) for hub in seen}


def _hub(hub: SeenHub, asked: Asked | None, slots: Mapping[str, int], silence_s: float) -> dict[str, Any]:
    row = hub.row
    state = asked.state if asked is not None else None
    value: dict[str, Any] = {
        "name": row.name,
        "url": row.url,
        "state": _state(hub, state, silence_s),
        "why": [],
        "connections": row.connections,
        "capacity": row.capacity,
        "slots": slots.get(row.name, 0),
        "up_m": int(hub.up_s // 60),
        "silent_s": int(hub.silent_s) if hub.silent_s > silence_s / 2 else 0,
    }
    if asked is not None and asked.trouble is not None:
        value["why"] = [asked.trouble]
    if state is not None:
        value |= {
            "why": list(state.not_ready),
            "bus": state.bus,
            "connections": state.connections,
            "own": state.own,
            "strangers": state.strangers,
            "sees": len(state.view),
            "settled": state.view_settled,
            "moving": msgspec.structs.asdict(state.moving),
        }
    return value


def _state(hub: SeenHub, state: HubState | None, silence_s: float) -> str:
    """One word, the worst that is true."""
    if hub.silent_s > silence_s:
        return "silent"
    if hub.row.leaving or (state is not None and state.phase == "draining"):
        return "draining"
    if state is None:
        return "unasked"
    if state.bus == "deaf":
        return "deaf"
    if state.not_ready:
        return "not ready"
    if state.bus in _BAD:
        return state.bus
    return "full" if state.connections >= state.capacity else "ready"


def device_values(rows: Iterable[DeviceRow], asked: Mapping[str, Asked]) -> dict[str, Any]:
    """One value for each device that is looked at; what its hub knows is newer than what is recorded."""
    values: dict[str, Any] = {}
    for row in rows:
        hub = asked.get(row.hub) if row.hub is not None else None
        there = hub.state.devices.get(row.device_id) if hub is not None and hub.state is not None else None
        acked = max(row.acked, there.acked) if there is not None and there.acked <= row.head else row.acked
        values[DEVICE + row.device_id] = {
            "id": row.device_id,
            "class": row.device_class,
            "epoch": row.epoch,
            "head": row.head,
            "acked": acked,
            "lag": max(0, row.head - max(acked, row.floor)),
            "hub": row.hub,
            "here": there is not None,
            "sent": there.sent if there is not None else None,
            "rtt_ms": (there.rtt_ms or None) if there is not None else None,
            "behind": there is not None and there.behind,
            "moving": there is not None and there.moving,
            "flaps": round(row.flaps, 1),
            "since_s": _coarse(row.connected_s if row.hub is not None else row.away_s),
            "acked_s": _coarse(row.acked_s),
        }
    return values


def _coarse(seconds: float | None) -> int | None:
    """So exact as a person reads an age: it must not change with every look."""
    if seconds is None:
        return None
    step = 1 if seconds < 10 else 10 if seconds < 120 else 60 if seconds < 7200 else 3600
    return int(max(0.0, seconds) // step * step)


def feed_values(groups: Sequence[FeedGroup]) -> dict[str, Any]:
    """One value: the groups, as a list."""
    return {
        "feeds": [
            {
                "provider": one.provider,
                "root": one.root,
                "owner": one.owner,
                "feeds": one.feeds,
                "terms": [one.term_min, one.term_max],
                "stale_s": None if one.stale_s is None else round(one.stale_s),
                "changed_s": _coarse(one.changed_s),
                "full": one.in_full,
                "more": one.more,
            }
            for one in groups
        ]
    }


def queue_values(queues: Sequence[QueueState], dead: int) -> dict[str, Any]:
    """One value for each queue, and one for the jobs that ended dead."""
    values: dict[str, Any] = {
        f"queue/{one.queue}": {
            "queue": one.queue,
            "waiting": one.waiting,
            "delayed": one.delayed,
            "running": one.running,
            "oldest_s": round(one.oldest_s, 1),
            "per_s": one.per_s,
        }
        for one in queues
    }
    return values | {"dead": dead}


def stage_value(
    jobs: StageTimes | None, hubs: Mapping[str, tuple[int, Sequence[float | None]]]
) -> list[dict[str, Any]]:
    """The waterfall: each stage with the milliseconds that half, 95 and 99 of a hundred took to it."""
    none: tuple[int, Sequence[float | None]] = (0, (None, None, None))
    timed = dict.fromkeys(("detected", "claimed", "recorded"), none)
    if jobs is not None:
        timed = {
            "detected": (jobs.jobs, jobs.recorded),
            "claimed": (jobs.jobs, jobs.claimed),
            "recorded": (jobs.jobs, jobs.answered),
        }
    timed |= {stage: hubs.get(stage, none) for stage in ("fanned_out", "sent", "acked")}
    return [{"stage": stage, "of": count, "ms": rounded(times)} for stage, (count, times) in timed.items()]


def total_value(census: Census | None, hub_figures: Mapping[str, Any], queues: Sequence[QueueState]) -> dict[str, Any]:
    """What stands at the top of the page."""
    return {
        "devices": census.devices if census is not None else None,
        "behind": census.behind_here if census is not None else None,
        "backlog": census.backlog if census is not None else None,
        "epoch": census.epoch if census is not None else None,
        "waiting": sum(one.waiting for one in queues),
        "running": sum(one.running for one in queues),
        **hub_figures,
    }
