"""Moving, step by step: at its rate, marked before told, dropped when the hubs change, held when too many vanish."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random

import pytest

from hub.mover import Mover, MoverTimes
from hub.neighbours import Neighbours
from hub.rebalance import Verdict
from hub.strangers import Strangers
from shared.backoff import Backoff
from shared.protocol.close_codes import CloseCode
from shared.store.errors import StoreUnavailable
from shared.store.hubs import HubRow
from tests.hub.conftest import until

NAMES = ["hub-a", "hub-b", "hub-c", "hub-d", "hub-e"]


class Device:
    """Connected here; stays whatever it is told."""

    may_rehome = True

    def __init__(self, slot: int) -> None:
        self.device_id = f"truck-{slot}"
        self.slot = slot
        self.told: list[tuple[str, int, str]] = []
        self.ended: list[CloseCode] = []

    @property
    def is_over(self) -> bool:
        return bool(self.ended)

    def tell_moved(self, url: str, after_ms: int, reason: str) -> None:
        self.told.append((url, after_ms, reason))

    def end(self, code: CloseCode, reason: str | None = None) -> None:
        self.ended.append(code)


class Rig:
    """A mover with a hub's worth of devices, its Postgres and its table of hubs in the test's hands."""

    def __init__(self, *, rate: float = 1000.0, devices: int = 60) -> None:
        self.devices = {f"truck-{slot}": Device(slot) for slot in range(devices)}
        self.marked: list[str] = []
        self.postgres_answers = True
        self.are_here = True
        self.room: dict[str, int] = {}
        self.while_marking: Callable[[], None] = lambda: None
        self.neighbours = Neighbours("hub-a", "run", period_s=0.1, proxy_url=None)
        self.strangers = Strangers("hub-a", self.neighbours.view, self._connections, stay_s=0.0)
        self.mover = Mover(
            self.neighbours,
            connections=self._connections,
            get=self.devices.get,
            strangers=self.strangers,
            mark=self._mark,
            times=MoverTimes(rate, wave_s=0.02, linger_s=0.05),
            automatic=True,
            rand=Random(1),
            backoff=lambda: Backoff(Random(1), base=0.01, cap=0.01),
        )
        self.neighbours.on_view = self.mover.on_view

    def _connections(self) -> list[Device]:
        return list(self.devices.values()) if self.are_here else []

    async def _mark(self, device_ids: Sequence[str]) -> None:
        await asyncio.sleep(0)
        self.while_marking()
        if not self.postgres_answers:
            raise StoreUnavailable("away")
        assert not any(self.devices[device_id].told for device_id in device_ids)
        self.marked += device_ids

    def see(self, *names: str) -> None:
        """One look at the hubs."""
        self.neighbours.on_rows(
            [
                HubRow(
                    name,
                    "run",
                    f"ws://{name}",
                    len(self.told) if name in self.room else 0,
                    self.room.get(name, 500),
                    draining=False,
                )
                for name in names
            ]
        )

    async def settle(self, *names: str) -> None:
        """Look until that view has settled."""
        self.see(*names)
        async with asyncio.timeout(10):
            while not self.neighbours.settling.is_settled:
                await asyncio.sleep(0.005)
                self.see(*names)

    @property
    def told(self) -> list[Device]:
        return [device for device in self.devices.values() if device.told]

    def belonging_to(self, name: str, *names: str) -> list[Device]:
        view = self.neighbours.view.changed(plus=names)
        return [device for device in self.devices.values() if view.owner(device.slot) == name]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    task = asyncio.create_task(made.mover.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_is_marked_then_told_once_and_ended_when_it_stays(rig: Rig) -> None:
    await rig.settle("hub-a", "hub-b")
    won = rig.belonging_to("hub-b")
    await until(lambda: all(device.ended == [CloseCode.MOVED] for device in won))
    assert rig.told == won
    assert all(device.told[0][0] == "ws://hub-b/v1/socket" for device in won)
    assert sorted(rig.marked) == sorted(device.device_id for device in won)
    assert rig.mover.rebalance.base.names == ["hub-a", "hub-b"]


async def test_a_hub_that_dies_while_its_devices_are_being_marked_gets_none_and_moving_goes_on(rig: Rig) -> None:
    rig.while_marking = lambda: rig.see("hub-a", "hub-c")
    await rig.settle("hub-a", "hub-b", "hub-c")
    await until(lambda: bool(rig.marked))
    rig.while_marking = lambda: None
    await rig.settle("hub-a", "hub-c")
    won = rig.belonging_to("hub-c")
    await until(lambda: all(device.told for device in won))
    assert {told[0] for device in rig.devices.values() for told in device.told} == {"ws://hub-c/v1/socket"}


@pytest.mark.parametrize("postgres_answers", [True, False])
async def test_what_is_stopped_while_some_are_being_marked_is_stopped_for_those_too(
    rig: Rig, postgres_answers: bool
) -> None:
    stopped: list[int] = []

    def stop() -> None:
        rig.postgres_answers = postgres_answers
        stopped.append(rig.mover.abort())
        rig.while_marking = lambda: None

    rig.while_marking = stop
    await rig.settle("hub-a", "hub-b")
    await until(lambda: stopped)
    rig.postgres_answers = True
    for _ in range(20):
        rig.see("hub-a", "hub-b")
        await asyncio.sleep(0.005)
    assert rig.mover.progress()["left"] == 0
    assert rig.told == []


async def test_nobody_is_told_while_postgres_cannot_mark_them_and_all_are_when_it_can(rig: Rig) -> None:
    rig.postgres_answers = False
    await rig.settle("hub-a", "hub-b")
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert rig.told == []
    rig.postgres_answers = True
    await until(lambda: rig.told == rig.belonging_to("hub-b"))
    assert len(rig.marked) == len(set(rig.marked))


async def test_a_view_that_changes_stops_what_is_not_told_yet(rig: Rig) -> None:
    rig.postgres_answers = False
    await rig.settle("hub-a", "hub-b")
    assert rig.mover.progress()["left"] > 0
    rig.see("hub-a")
    await until(lambda: rig.mover.progress()["left"] == 0)
    rig.postgres_answers = True
    await rig.settle("hub-a")
    assert rig.told == []
    assert rig.mover.rebalance.judge(rig.neighbours.settling) is Verdict.REST


async def test_when_more_than_half_vanish_nobody_moves_until_an_operator_says_so(rig: Rig) -> None:
    rig.are_here = False
    await rig.settle(*NAMES)
    rig.are_here = True
    await rig.settle("hub-a", "hub-b")
    assert rig.mover.progress()["held"]
    assert rig.told == []
    assert rig.mover.move(None) == len(rig.belonging_to("hub-b"))
    await until(lambda: rig.told == rig.belonging_to("hub-b"))
    assert not rig.mover.progress()["held"]
    rig.see("hub-a", "hub-b")
    assert not rig.mover.progress()["held"]


async def test_it_keeps_to_its_rate() -> None:
    rig = Rig(rate=100.0, devices=100)
    task = asyncio.create_task(rig.mover.run())
    began = asyncio.get_running_loop().time()
    await rig.settle("hub-a", "hub-b")
    await until(lambda: len(rig.told) >= 20)
    # At most what 100 a second and one wave allow; slower is no fault of a busy machine.
    assert len(rig.told) <= 100 * (asyncio.get_running_loop().time() - began) + 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_strangers_are_sent_home_when_nothing_else_moves_and_each_only_once(rig: Rig) -> None:
    rig.are_here = False
    await rig.settle("hub-a", "hub-b")
    rig.are_here = True
    for device in rig.devices.values():
        rig.strangers.came(device)
    theirs = rig.belonging_to("hub-b")
    rig.see("hub-a", "hub-b")
    rig.see("hub-a", "hub-b")
    await until(lambda: rig.told == theirs)
    rig.see("hub-a", "hub-b")
    await until(lambda: not rig.mover.progress()["leaving"])
    assert all([reason for _, _, reason in device.told] == ["rehome"] for device in theirs)


async def test_a_hub_that_leaves_begins_nothing_more(rig: Rig) -> None:
    rig.mover.close()
    await rig.settle("hub-a", "hub-b")
    assert rig.mover.progress()["left"] == 0
    assert rig.told == []


@pytest.mark.parametrize("may_rehome", [True, False])
async def test_devices_whose_hub_was_full_are_sent_there_when_it_has_room_and_no_more_than_it_has(
    rig: Rig, may_rehome: bool
) -> None:
    for device in rig.devices.values():
        device.may_rehome = may_rehome
    rig.room["hub-b"] = 0
    await rig.settle("hub-a", "hub-b")
    theirs = rig.belonging_to("hub-b")
    assert len(theirs) > 10
    if not may_rehome:
        await until(lambda: rig.mover.skipped["full"] == len(theirs))
    assert rig.told == []
    rig.room["hub-b"] = 2
    rig.see("hub-a", "hub-b")
    await until(lambda: len(rig.told) == 2)
    for _ in range(20):
        rig.see("hub-a", "hub-b")
        await asyncio.sleep(0.005)
    assert len(rig.told) == 2
    rig.room["hub-b"] = 500
    rig.see("hub-a", "hub-b")
    async with asyncio.timeout(10):
        while rig.told != theirs:
            rig.see("hub-a", "hub-b")
            await asyncio.sleep(0.005)
    assert all(len(device.told) == 1 for device in theirs)


async def test_devices_that_wait_for_room_stay_when_an_operator_stops_the_moves(rig: Rig) -> None:
    rig.room["hub-b"] = 0
    await rig.settle("hub-a", "hub-b")
    await until(lambda: rig.mover.skipped["full"])
    rig.mover.abort()
    rig.room["hub-b"] = 500
    for _ in range(20):
        rig.see("hub-a", "hub-b")
        await asyncio.sleep(0.005)
    assert rig.told == []
