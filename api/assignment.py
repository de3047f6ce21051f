"""Which hub a device is sent to: the owner of its slot, or the next by the same hash that has room.

Pure and without memory, so any API process gives the same answer from the same hubs. It is advice: a hub accepts any
device, and one that filled up meanwhile refuses, upon which the device tries an alternative or asks again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shared.hash_slots import owners, slot_of
from shared.store.hubs import HubRow

__all__ = ["ALTERNATIVES_MAX", "Assignment", "Mode", "assign"]

ALTERNATIVES_MAX: Final = 3

Mode = Literal["direct", "proxy"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The hub to connect to, and those to try when it refuses, best first."""

    hub: HubRow
    alternatives: Sequence[HubRow]


def assign(device_id: str, hubs: Iterable[HubRow], *, connected_to: str | None = None) -> Assignment | None:
    """None when no hub has room. A hub that holds the device already (`connected_to`) has room for it, full or not."""
    by_name = {hub.name: hub for hub in hubs if not (hub.draining or hub.leaving) and _has_room(hub, connected_to)}
    if not by_name:
        return None
    first, *others = (by_name[name] for name in owners(slot_of(device_id), by_name))
    return Assignment(first, others[:ALTERNATIVES_MAX])


def _has_room(hub: HubRow, connected_to: str | None) -> bool:
    return hub.connections < hub.capacity or hub.name == connected_to
