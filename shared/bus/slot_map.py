"""Which node of Redis has which key: pure, made from what the nodes say.

A key (and a sharded channel) lies in one of 16,384 key slots by the CRC16 of its hash tag, and a key slot lies on one
node. One Redis that is no cluster is a map with one node that has them all, so that nobody else needs to tell the two
apart. Not to be confused with our own 1,024 slots of devices: those are channels, and each lies in one key slot.
"""

from binascii import crc_hqx
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["KEY_SLOTS", "Address", "InvalidMap", "Moved", "SlotMap", "key_slot", "parse_moved"]

KEY_SLOTS: Final = 16384


class Address(NamedTuple):
    """A node of a cluster as the cluster names it."""

    host: str
    port: int


class Moved(NamedTuple):
    """An answer `MOVED 3999 127.0.0.1:6381`."""

    key_slot: int
    address: Address


class InvalidMap(ValueError):
    """A node's answer that is no map."""


def key_slot(key: bytes) -> int:
    """The key slot of a key or sharded channel."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % KEY_SLOTS


class SlotMap:
    """Owner of every key slot, and all nodes that can be asked. Never changes; `with_moved` makes another."""

    def __init__(self, owners: Sequence[Address | None], others: Iterable[Address] = ()) -> None:
        """`others` are nodes that own nothing, such as replicas: they too know the map."""
        self._owners = tuple(owners)
        self.owners: frozenset[Address] = frozenset(one for one in set(self._owners) if one is not None)
        self.nodes: frozenset[Address] = self.owners | frozenset(others)

    @classmethod
    def single(cls, address: Address) -> "SlotMap":
        """One node that has everything."""
        return cls((address,) * KEY_SLOTS)

    @classmethod
    def from_cluster_slots(cls, reply: Any, asked: Address) -> "SlotMap":
        """From the answer to CLUSTER SLOTS. Raises InvalidMap.

        A node that does not know its own address leaves it out: then it is the one it was asked at.
        """
        owners: list[Address | None] = [None] * KEY_SLOTS
        others: set[Address] = set()
        try:
            for first, last, owner, *replicas in reply:
                if not 0 <= first <= last < KEY_SLOTS:
                    raise InvalidMap(f"key slots {first} to {last} do not exist")
                owners[first : last + 1] = [_address(owner, asked)] * (last + 1 - first)
                others.update(_address(replica, asked) for replica in replicas)
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise InvalidMap(f"an answer to CLUSTER SLOTS that cannot be read: {error!r}") from None
        return cls(owners, others)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlotMap) and self._owners == other._owners and self.nodes == other.nodes

    def __hash__(self) -> int:
        return hash(self.nodes)

    def __repr__(self) -> str:
        covered = sum(owner is not None for owner in self._owners)
        return f"SlotMap({len(self.owners)} owners of {covered} key slots, {len(self.nodes)} nodes)"

    def owner(self, slot: int) -> Address | None:
        """Who has this key slot; None when nobody is said to."""
        return self._owners[slot]

    def with_moved(self, moved: Mapping[int, Address]) -> "SlotMap":
        """The same with these key slots elsewhere."""
        owners = list(self._owners)
        for slot, address in moved.items():
            owners[slot] = address
        return SlotMap(owners, self.nodes)


def parse_moved(error: str, asked: Address) -> Moved | None:
    """What an error says when it says MOVED; None for any other."""
    words = error.split()
    if len(words) != 3 or words[0] != "MOVED":
        return None
    host, colon, port = words[2].rpartition(":")
    if not colon or not words[1].isascii() or not words[1].isdigit() or not port.isascii() or not port.isdigit():
        return None
    if int(words[1]) >= KEY_SLOTS or not 0 < int(port) < 65536:
        return None
    return Moved(int(words[1]), Address(host.strip("[]") or asked.host, int(port)))


def _address(node: Sequence[Any], asked: Address) -> Address:
    raw = node[0]
    host = raw.decode() if isinstance(raw, bytes) else (raw or "")
    port = int(node[1])
    if not 0 < port < 65536:
        raise InvalidMap(f"a node has port {port}")
    return Address(asked.host if host in ("", "?") else host, port)
