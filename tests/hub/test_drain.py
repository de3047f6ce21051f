"""Devices are sent away at a rate, each at its own moment, to where they belong next."""

import asyncio
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.drain import Pace, moments, send_away
from shared.protocol.close_codes import CloseCode

PACE = Pace(rate=300.0, longest_s=1.0, wave_s=0.05, linger_s=0.2)


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(0, 2**32))
def test_at_least_fifty_a_second_and_all_within_twenty_seconds(count: int, seed: int) -> None:
    when = moments(count, Random(seed), rate=50.0, longest_s=20.0)
    assert len(when) == count
    assert when == sorted(when)
    assert all(0 <= moment <= min(20.0, count / 50.0) for moment in when)


class Device:
    """One connected device: goes where it is told when it is one that listens."""

    def __init__(self, number: int, house: "House", *, listens: bool) -> None:
        self.device_id = f"truck-{number}"
        self.slot = number
        self.house = house
        self.listens = listens
        self.told: list[tuple[str, int, str]] = []
        self.ended: list[CloseCode] = []
        self.is_over = False

    def tell_moved(self, url: str, after_ms: int, reason: str) -> None:
        assert not self.is_over
        self.told.append((url, after_ms, reason))
        if self.listens:
            asyncio.get_running_loop().call_later(after_ms / 1000, self.leave)

    def end(self, code: CloseCode, reason: str | None = None) -> None:
        assert reason is None
        self.ended.append(code)
        self.leave()

    def leave(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.house.left(self)


class House:
    """Counts its devices out."""

    def __init__(self, listening: int, deaf: int = 0) -> None:
        self.devices = [Device(n, self, listens=n < listening) for n in range(listening + deaf)]
        self.gone = asyncio.Event()
        self.outcomes: list[str] = []
        self.alone = False

    def left(self, device: Device) -> None:
        if all(device.is_over for device in self.devices):
            self.gone.set()

    async def empty(self, *, heirs: bool = True) -> None:
        async with asyncio.timeout(20):
            await send_away(
                self.devices,
                Random(1),
                pace=PACE,
                heir=lambda device: f"ws://hub-{device.slot % 2}" if heirs else None,
                is_alone=lambda: self.alone,
                gone=self.gone,
                close_s=5.0,
                on_outcome=self.outcomes.append,
            )


async def test_everyone_is_told_once_where_to_go_and_none_is_closed() -> None:
    house = House(60)
    await house.empty()
    for device in house.devices:
        ((url, after_ms, reason),) = device.told
        assert (url, reason) == (f"ws://hub-{device.slot % 2}", "drain")
        assert 0 <= after_ms <= 1000 * PACE.wave_s
    assert not any(device.ended for device in house.devices)


async def test_those_that_stay_are_closed_after_a_while() -> None:
    house = House(10, deaf=10)
    await house.empty()
    assert [device.ended for device in house.devices] == [[]] * 10 + [[CloseCode.DRAINING]] * 10
    assert house.outcomes.count("ended") == 10


async def test_without_room_elsewhere_everyone_is_closed_at_its_own_moment() -> None:
    house = House(30)
    await house.empty(heirs=False)
    assert all(device.ended == [CloseCode.DRAINING] and not device.told for device in house.devices)


async def test_those_that_were_told_to_go_to_a_hub_that_leaves_as_well_do_not_wait() -> None:
    house = House(0, deaf=20)
    house.alone = True
    await house.empty()
    assert all(device.ended == [CloseCode.DRAINING] for device in house.devices)
