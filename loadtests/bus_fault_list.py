"""What is done to the bus in a fault run, one way after another, on one Redis and on a cluster.

Each act returns when what it broke is back, with the moment of that; where nothing comes back by itself, it is put
back by the act. `clean` makes the servers whole again after the fault was measured.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from loadtests.machine import Machine
from loadtests.mute_relay import Relays
from loadtests.valkey_cluster import Node, ValkeyCluster
from shared.bus.names import slot_channel
from shared.bus.slot_map import key_slot
from shared.hash_slots import slot_of

__all__ = ["CLUSTER", "SINGLE", "Fault", "Place"]

_LONG_S: Final = 20.0
_JUNK: Final = b"\xff" * 200_000


@dataclass
class Place:
    """Where it happens. `hub` is picked on: the first device's. `hold_s` is how long what can be held is held."""

    machine: Machine
    relays: Relays
    devices: Sequence[str]
    hold_s: float
    hub: str = "hub-1"
    single: Node | None = None
    spare: Node | None = None
    cluster: ValkeyCluster | None = None

    @property
    def victim(self) -> Node:
        """The server of the first device's slot."""
        if self.single is not None:
            return self.single
        assert self.cluster is not None
        return self.cluster.owner(self.key_slots[0])

    @property
    def key_slots(self) -> list[int]:
        """Where the devices' slots lie in the cluster, the first device's first."""
        return list(dict.fromkeys(key_slot(slot_channel(slot_of(device))) for device in self.devices))

    @property
    def channel(self) -> bytes:
        """The channel of the first device."""
        return slot_channel(slot_of(self.devices[0]))


@dataclass(frozen=True)
class Fault:
    """`is_own`: only one hub is hit, which must say that it is not ready; else all stay ready. `stops_hub`: the act
    itself makes a hub stand still."""

    name: str
    act: Callable[[Place], Awaitable[float]]
    is_own: bool = False
    stops_hub: bool = False


async def _stopped(place: Place) -> float:
    """SIGSTOP of the only Redis, or of every node."""
    nodes = [place.single] if place.single is not None else list(place.cluster.nodes if place.cluster else ())
    for node in nodes:
        assert node is not None
        node.pause()
    await asyncio.sleep(place.hold_s)
    for node in nodes:
        assert node is not None
        node.resume()
    return time.monotonic()


async def _killed(place: Place) -> float:
    node = place.victim
    node.kill()
    await asyncio.sleep(place.hold_s)
    node.start()
    await _until(lambda: node.says("server", "redis_version"), "it answers")
    return time.monotonic()


async def _subscribers_killed(place: Place) -> float:
    await asyncio.to_thread(place.victim.ask, "CLIENT", "KILL", "TYPE", "pubsub")
    return time.monotonic()


async def _overflow(place: Place) -> float:
    """The hub stands still while more is published to one of its slots than the server keeps for it."""
    node = place.victim
    await asyncio.to_thread(node.ask, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
    before = await asyncio.to_thread(_subscribers, node, place.hub)
    pid = place.machine.pause(place.hub)
    try:
        sent = 0
        while await asyncio.to_thread(_subscribers, node, place.hub) >= before and sent < 500:
            await asyncio.to_thread(node.ask, "SPUBLISH", place.channel, _JUNK)
            sent += 1
        if sent == 500:
            raise RuntimeError("the server kept 100 MB for a hub that reads nothing")
    finally:
        resumed = time.monotonic()
        place.machine.resume(pid)
    await asyncio.to_thread(node.ask, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")
    return resumed


def _subscribers(node: Node, name: str) -> int:
    clients: list[dict[str, Any]] = node.client.client_list(_type="pubsub")
    return sum(client["name"] == name for client in clients)


async def _made_a_replica(place: Place) -> float:
    """The Redis that all use becomes a replica of another, and later a primary again."""
    assert place.single is not None
    assert place.spare is not None
    await asyncio.to_thread(place.single.ask, "REPLICAOF", "127.0.0.1", place.spare.port)
    await asyncio.sleep(place.hold_s)
    await asyncio.to_thread(place.single.ask, "REPLICAOF", "NO", "ONE")
    return time.monotonic()


async def _deaf(place: Place) -> float:
    """What the server says to the subscribing connection of one hub is lost; new connections work."""
    muted = await asyncio.to_thread(place.relays.mute, place.victim.port, place.hub)
    if not muted:
        raise RuntimeError(f"{place.hub} does not subscribe at {place.victim}")
    return time.monotonic()


async def _failed_over(place: Place) -> float:
    assert place.cluster is not None
    await asyncio.to_thread(place.cluster.fail_over, place.victim)
    return time.monotonic()


async def _primary_lost(place: Place, lose: Callable[[Node], None]) -> float:
    """Lost for good, as far as the hubs see: its replica takes over, and it comes back as a replica."""
    cluster, old = place.cluster, place.victim
    assert cluster is not None
    lose(old)

    def is_replaced() -> bool:
        return any(
            first <= place.key_slots[0] <= last for node in cluster.nodes for first, last in cluster.ranges(node)
        )

    await _until(is_replaced, "the replica takes over")
    return time.monotonic()


async def _primary_killed(place: Place) -> float:
    return await _primary_lost(place, Node.kill)


async def _primary_stopped(place: Place) -> float:
    return await _primary_lost(place, Node.pause)


async def _migrated(place: Place) -> float:
    """Half of what one primary has of the devices' key slots moves to another while events flow."""
    cluster, source = place.cluster, place.victim
    assert cluster is not None
    target = next(node for node in cluster.primaries() if node is not source)
    mine = [slot for slot in place.key_slots if await asyncio.to_thread(cluster.owner, slot) is source]
    await asyncio.to_thread(cluster.move, mine[: max(1, len(mine) // 2)], source, target)
    return time.monotonic()


async def _replica_detached(place: Place) -> float:
    assert place.cluster is not None
    replica = await asyncio.to_thread(place.cluster.replica_of, place.victim)
    replica.kill()
    await asyncio.sleep(place.hold_s)
    return time.monotonic()


async def _until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + _LONG_S
    while True:
        try:
            if await asyncio.to_thread(condition):
                return
        except (OSError, redis.RedisError):
            pass
        if time.monotonic() > end:
            raise RuntimeError(f"not within {_LONG_S:.0f} s: {what}")
        await asyncio.sleep(0.02)


SINGLE: Final = (
    Fault("Redis stopped (SIGSTOP)", _stopped),
    Fault("Redis killed and started again", _killed),
    Fault("CLIENT KILL TYPE pubsub", _subscribers_killed),
    Fault("output buffer of a hub overflows", _overflow, stops_hub=True),
    Fault("Redis made a replica of another", _made_a_replica),
    Fault("one hub deaf", _deaf, is_own=True),
)
CLUSTER: Final = (
    Fault("all nodes stopped (SIGSTOP)", _stopped),
    Fault("CLIENT KILL TYPE pubsub at one node", _subscribers_killed),
    Fault("output buffer of a hub overflows", _overflow, stops_hub=True),
    Fault("replica detached", _replica_detached),
    Fault("slots migrate", _migrated),
    Fault("orderly failover", _failed_over),
    Fault("primary killed, fails over", _primary_killed),
    Fault("primary stopped (SIGSTOP), fails over", _primary_stopped),
    Fault("one shard of three deaf to one hub", _deaf, is_own=True),
)
