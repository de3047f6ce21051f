"""Whether devices were moved as they should be: those whose owner changed, no others, at the set rate at most. Pure.

It knows the hubs only as numbers over time: k hubs are hub-1 to hub-k.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.hash_slots import owner, slot_of

__all__ = ["Told", "misplaced", "peak_rate", "unexplained"]


@dataclass(frozen=True, slots=True)
class Told:
    """A device was told to go; `at_s` is when it was told, and it goes `after_s` later."""

    at_s: float
    device_id: str
    from_hub: str
    to_hub: str
    reason: str
    after_s: float = 0.0


def names(hubs: int) -> list[str]:
    """The hubs there are when there are so many."""
    return [f"hub-{number}" for number in range(1, hubs + 1)]


def unexplained(told: Iterable[Told], hubs: Sequence[int]) -> list[Told]:
    """Moves that no change of the hubs explains, with the numbers of hubs there were, one after the other.

    A move is explained by one earlier number at which the device was where it belonged and a later one at which it
    belongs where it was told to go; the moves of one device in the order of the changes. A newcomer may be sent home
    once: its own hub was full when it came.
    """
    left = []
    moved: set[str] = set()
    reached: dict[str, int] = defaultdict(int)
    for move in sorted(told, key=lambda move: move.at_s):
        owners = [owner(slot_of(move.device_id), names(count)) for count in hubs]
        begin = reached[move.device_id]
        later = next(
            (
                place
                for place in range(begin + 1, len(owners))
                if owners[place] == move.to_hub
                and move.from_hub in owners[begin:place]
                and move.from_hub != move.to_hub
            ),
            None,
        )
        is_newcomer = move.reason == "rehome" and move.device_id not in moved and move.to_hub in owners
        moved.add(move.device_id)
        if later is None and not is_newcomer:
            left.append(move)
        elif later is None:
            reached[move.device_id] = owners.index(move.to_hub)
        else:
            reached[move.device_id] = later
    return left


def misplaced(where: Mapping[str, str], hubs: int) -> list[str]:
    """Devices that are on another hub than the one that they belong to, with so many hubs."""
    there = names(hubs)
    return [device_id for device_id, hub in where.items() if owner(slot_of(device_id), there) != hub]


def peak_rate(told: Iterable[Told], *, seconds: float) -> dict[str, float]:
    """The most devices per second that each hub sent away, over any so many seconds."""
    moments: dict[str, list[float]] = defaultdict(list)
    for move in told:
        moments[move.from_hub].append(move.at_s + move.after_s)
    peaks: Counter[str] = Counter()
    for hub, times in moments.items():
        times.sort()
        first = 0
        for last, moment in enumerate(times):
            while times[first] <= moment - seconds:
                first += 1
            peaks[hub] = max(peaks[hub], last - first + 1)
    return {hub: count / seconds for hub, count in peaks.items()}
