"""The bus on a real cluster whose nodes are killed, stopped, failed over and robbed of slots while messages flow."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import uuid4

import pytest

from loadtests.valkey_cluster import Node, ValkeyCluster
from shared.bus.canary import BusState, Canary
from shared.bus.job_hints import JobHintReader, JobHints
from shared.bus.lease_lock import Held, LeaseLocks
from shared.bus.message import EVENT, Message
from shared.bus.names import slot_channel
from shared.bus.publisher import Publisher
from shared.bus.redis_client import LazyRedis
from shared.bus.slot_map import key_slot
from shared.hash_slots import slot_of
from shared.telemetry.metrics import BUS_DROPPED, BUS_MOVED
from tests.shared.bus.conftest import Ear, publishing, until

DEVICES = [f"truck-{n}" for n in range(30)]
SLOTS = sorted({slot_of(device) for device in DEVICES})
# A failover takes node-timeout and an election; this machine may be busy.
LONG_S = 20.0


def key_slot_of(device: str) -> int:
    return key_slot(slot_channel(slot_of(device)))


class Bus:
    """A reader of all the devices' slots, a publisher and a canary, all running."""

    def __init__(self, ear: Ear, publisher: Publisher, canary: Canary) -> None:
        self.ear = ear
        self.publisher = publisher
        self.canary = canary
        self.states: list[BusState] = []
        self.sent = dict.fromkeys(DEVICES, 0)

    def publish(self) -> None:
        """One message to every device."""
        for device in DEVICES:
            self.sent[device] += 1
            self.publisher.offer(Message(EVENT, device, 1, self.sent[device], b"{}"))

    def heard(self, device: str) -> list[int]:
        return [seq for _, name, _, seq, _ in self.ear.messages if name == device]

    async def until_ok(self) -> None:
        await until(lambda: self.canary.state is BusState.OK and self.ear.reader.all_confirmed, "the bus is ok", LONG_S)

    async def until_heard_again(self) -> None:
        """Until what is published now reaches every device."""
        await self.until_ok()
        self.publish()
        await until(lambda: all(self.heard(one)[-1:] == [self.sent[one]] for one in DEVICES), "all is heard", LONG_S)

    def assert_in_order_and_missed_only_in_gaps(self) -> None:
        """Whoever is told of a gap reads the log, and may get out of order what was on its way when it began."""
        for device in DEVICES:
            if self.heard(device) != list(range(1, self.sent[device] + 1)):
                assert slot_of(device) in self.ear.gap_slots, f"{device} missed one, or late, and no gap was told"


@asynccontextmanager
async def bus_of(cluster: ValkeyCluster) -> AsyncIterator[Bus]:
    async with publishing(cluster.url, deadline_s=0.5) as publisher:
        ear = Ear(cluster.url, deadline_s=0.5)
        for slot in SLOTS:
            ear.reader.acquire(slot)
        states: list[BusState] = []
        canary = Canary(hub="hub-c", publisher=publisher, reader=ear.reader, on_state=states.append)
        bus = Bus(ear, publisher, canary)
        bus.states = states
        tasks = [asyncio.create_task(ear.reader.run()), asyncio.create_task(canary.run())]
        try:
            await bus.until_ok()
            states.clear()
            yield bus
        finally:
            tasks[1].cancel()
            await ear.reader.close()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def flowing(bus: Bus) -> AsyncIterator[None]:
    """Messages to every device all the time."""

    async def flow() -> None:
        while True:
            bus.publish()
            await asyncio.sleep(0.02)

    task = asyncio.create_task(flow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Blocking work beside the loop."""
    return await asyncio.to_thread(work, *arguments)


def names_connected(node: Node, name: str) -> int:
    return sum(client["name"] == name for client in node.client.client_list())


async def test_each_device_is_heard_by_one_connection_to_the_node_that_has_its_slot(
    valkey_cluster: ValkeyCluster,
) -> None:
    async with bus_of(valkey_cluster) as bus:
        bus.publish()
        await until(lambda: len(bus.ear.messages) == len(DEVICES), "all arrive")
        assert bus.ear.gaps == []
        owners = {key_slot_of(device): valkey_cluster.owner(key_slot_of(device)).port for device in DEVICES[:6]}
        for device in DEVICES[:6]:
            address = bus.ear.reader.shard_of(slot_of(device))
            assert address is not None
            assert address.port == owners[key_slot_of(device)]
        for node in valkey_cluster.nodes:
            expected = 1 if node in valkey_cluster.primaries() else 0
            assert names_connected(node, "test-reader") == names_connected(node, "test-publisher") == expected


async def test_slots_that_move_to_another_node_under_load_stay_in_order_and_lose_nothing_in_silence(
    valkey_cluster: ValkeyCluster,
) -> None:
    async with bus_of(valkey_cluster) as bus:
        source, target = valkey_cluster.primaries()[:2]
        mine = [slot for slot in {key_slot_of(d) for d in DEVICES} if valkey_cluster.owner(slot) is source]
        assert mine
        resent, refused = BUS_MOVED.labels("publisher"), BUS_DROPPED.labels("publisher", "refused")
        resent_before, refused_before = resent._value.get(), refused._value.get()
        async with flowing(bus):
            await until(lambda: len(bus.ear.messages) > 100, "messages flow")
            await apart(valkey_cluster.move, mine, source, target)
            await bus.until_ok()
            await until(lambda: bus.ear.reader._topology.owner(mine[0]).port == target.port, "the move is known")  # type: ignore[union-attr]
        await bus.until_heard_again()
        bus.assert_in_order_and_missed_only_in_gaps()
        assert BusState.DEAF not in bus.states
        assert resent._value.get() > resent_before, "what was sent to the old node went to the new one"
        assert refused._value.get() == refused_before
        await apart(valkey_cluster.move, mine, target, source)


async def test_an_orderly_failover_under_load_is_a_gap_and_no_more(valkey_cluster: ValkeyCluster) -> None:
    async with bus_of(valkey_cluster) as bus:
        old = valkey_cluster.owner(key_slot_of(DEVICES[0]))
        async with flowing(bus):
            await until(lambda: len(bus.ear.messages) > 100, "messages flow")
            new = await apart(valkey_cluster.fail_over, old)
            await until(
                lambda: bus.ear.reader._topology.owner(key_slot_of(DEVICES[0])).port == new.port,  # type: ignore[union-attr]
                "the new primary is known",
                LONG_S,
            )
            await bus.until_ok()
        await bus.until_heard_again()
        bus.assert_in_order_and_missed_only_in_gaps()
        assert BusState.DEAF not in bus.states


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_a_primary_that_is_lost_under_load_is_replaced_by_its_replica(
    valkey_cluster: ValkeyCluster, how: str
) -> None:
    async with bus_of(valkey_cluster) as bus:
        old = valkey_cluster.owner(key_slot_of(DEVICES[0]))
        touched = {slot_of(d) for d in DEVICES if valkey_cluster.owner(key_slot_of(d)) is old}
        async with flowing(bus):
            await until(lambda: len(bus.ear.messages) > 100, "messages flow")
            getattr(old, how)()
            await until(lambda: {s for s in SLOTS if bus.canary.in_doubt(s)} == touched, "its slots are in doubt", 10.0)
            await bus.until_ok()
        await bus.until_heard_again()
        bus.assert_in_order_and_missed_only_in_gaps()
        assert BusState.DEAF not in bus.states, "a node that answers nobody is nobody's own fault"


async def test_a_replica_that_goes_away_changes_nothing(valkey_cluster: ValkeyCluster) -> None:
    async with bus_of(valkey_cluster) as bus:
        replica = valkey_cluster.replica_of(valkey_cluster.owner(key_slot_of(DEVICES[0])))
        async with flowing(bus):
            await until(lambda: len(bus.ear.messages) > 100, "messages flow")
            replica.kill()
            heard = len(bus.ear.messages)
            await until(lambda: len(bus.ear.messages) > heard + 1000, "messages flow on")
        await bus.until_heard_again()
        assert not {BusState.DEAF, BusState.DEGRADED} & {*bus.states}
        assert bus.ear.gaps == []


@contextmanager
def deaf_at(bus: Bus, device: str) -> Iterator[None]:
    """The connection by which this device is heard hears nothing any more, and looks alive."""
    address = bus.ear.reader.shard_of(slot_of(device))
    assert address is not None
    connection = bus.ear.reader._nodes[address]._connection
    assert connection is not None
    connection._on_push = lambda push: None
    yield


async def test_one_deaf_connection_of_three_is_found_and_puts_only_its_slots_in_doubt(
    valkey_cluster: ValkeyCluster,
) -> None:
    async with bus_of(valkey_cluster) as bus:
        owner = valkey_cluster.owner(key_slot_of(DEVICES[0]))
        touched = {slot_of(d) for d in DEVICES if valkey_cluster.owner(key_slot_of(d)) is owner}
        assert 0 < len(touched) < len(SLOTS)
        with deaf_at(bus, DEVICES[0]):
            await until(lambda: bus.canary.state is BusState.DEAF, "it is found", 5.0)
            await until(lambda: {s for s in SLOTS if bus.canary.in_doubt(s)} == touched, "only its slots are in doubt")
        await bus.until_heard_again()
        assert bus.ear.gap_slots == touched


async def test_a_cluster_that_is_down_at_the_start_is_joined_when_it_is_there(valkey_cluster: ValkeyCluster) -> None:
    for node in valkey_cluster.nodes:
        node.pause()
    ear = Ear(valkey_cluster.url, deadline_s=0.3)
    ear.reader.acquire(SLOTS[0])
    task = asyncio.create_task(ear.reader.run())
    try:
        assert not await ear.reader.wait_confirmed(SLOTS[0], 0.2)
        for node in valkey_cluster.nodes:
            node.resume()
        await until(lambda: ear.gap_slots == {SLOTS[0]}, "subscribed, and the gap is told", LONG_S)
    finally:
        await ear.reader.close()
        await task


async def test_job_hints_work_on_a_cluster(valkey_cluster: ValkeyCluster) -> None:
    hints = JobHints(valkey_cluster.url)
    task = asyncio.create_task(hints.run())
    reader = JobHintReader(valkey_cluster.url, "cluster", consumer="worker-1")
    try:
        await until(lambda: hints.connected, "connected")
        assert await reader.wait(0.1) == []
        job = uuid4()
        hints.offer("cluster", job)
        assert await reader.wait(5.0) == [job]
    finally:
        await reader.close()
        await hints.close()
        await task


async def test_lease_locks_work_on_a_cluster_and_fail_by_the_shard(valkey_cluster: ValkeyCluster) -> None:
    names = [f"local/{uuid4()}" for _ in range(24)]
    redis = LazyRedis(valkey_cluster.url, deadline_s=0.5)
    try:
        mine = LeaseLocks(redis, owner="watcher-1", deadline_s=2.0)
        theirs = LeaseLocks(redis, owner="watcher-2", deadline_s=2.0)
        assert set((await mine.hold(names)).values()) == {Held.MINE}
        assert set((await theirs.hold(names)).values()) == {Held.ANOTHERS}
        lost = valkey_cluster.owner(key_slot(f"fw:lease:{names[0]}".encode()))
        lost.pause()
        answers = await theirs.hold(names)
        assert answers[names[0]] is Held.UNKNOWN
        assert Held.ANOTHERS in answers.values(), "the other shards still answer"
        async with asyncio.timeout(LONG_S):
            while Held.UNKNOWN in (await mine.hold(names)).values():
                await asyncio.sleep(0.1)
        assert set((await theirs.hold(names)).values()) == {Held.ANOTHERS}
        await mine.release(names)
        assert set((await theirs.hold(names)).values()) == {Held.MINE}
    finally:
        await redis.aclose()
