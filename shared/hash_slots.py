"""Which slot a device is in, which partition watches its folder, and which hub owns a slot.

Pure functions of names, equal in every process and language (test vectors in docs/protocol.md). Ownership is rendezvous
hashing: a hub that joins only takes slots, a hub that leaves only gives its own away, and nobody coordinates.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

__all__ = ["PARTITIONS", "SLOTS", "owner", "owners", "partition_of", "slot_of"]

SLOTS: Final = 1024
PARTITIONS: Final = 64


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def slot_of(device_id: str) -> int:
    """The slot (0 to 1023) of a device: BLAKE2b-64 of the UTF-8 id, big-endian, modulo 1,024."""
    return _hash(device_id) % SLOTS


def partition_of(device_id: str) -> int:
    """The partition (0 to 63) of a device, which splits one local or S3 root into feeds: its slot modulo 64."""
    return slot_of(device_id) % PARTITIONS


def owner(slot: int, hubs: Iterable[str]) -> str | None:
    """The hub with the largest BLAKE2b-64 of `hub|slot`, or None when there is no hub."""
    return max(hubs, key=lambda hub: (_weight(hub, slot), hub), default=None)


def owners(slot: int, hubs: Iterable[str]) -> Sequence[str]:
    """All hubs, best first: the owner, then the ones to try when it is full or gone."""
    return sorted(hubs, key=lambda hub: (_weight(hub, slot), hub), reverse=True)


@lru_cache(maxsize=65536)
def _weight(hub: str, slot: int) -> int:
    return _hash(f"{hub}|{slot}")
