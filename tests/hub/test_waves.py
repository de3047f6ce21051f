"""Waves: rest while messages keep coming and nothing else is to do; never first, never when busy, never longer."""

import asyncio

import pytest

from hub.waves import Waves


class Machine:
    """A clock that moves by what is slept and by what the test says."""

    def __init__(self, wave_s: float = 0.002) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.waves = Waves(asyncio.get_running_loop(), wave_s, clock=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds

    async def batch(self, *, after_s: float = 0.0) -> None:
        self.now += after_s
        self.waves.on_batch_end()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_a_message_after_a_lull_rests_for_nothing() -> None:
    machine = Machine()
    for _ in range(3):
        await machine.batch(after_s=1.0)
    assert machine.slept == []


async def test_while_messages_keep_coming_the_loop_comes_round_once_a_wave() -> None:
    machine = Machine()
    for _ in range(20):
        await machine.batch(after_s=0.0005)
    assert len(machine.slept) >= 15
    assert machine.slept[-10:] == [pytest.approx(0.0015)] * 10


async def test_a_turn_that_took_longer_than_a_wave_is_followed_by_none() -> None:
    machine = Machine()
    for _ in range(5):
        await machine.batch(after_s=0.0025)
    assert machine.slept == []


async def test_several_batches_of_one_turn_rest_once() -> None:
    machine = Machine()
    await machine.batch()
    await machine.batch(after_s=0.0005)
    rests = len(machine.slept)
    machine.now += 0.0005
    for _ in range(3):
        machine.waves.on_batch_end()
    await machine.batch()
    assert len(machine.slept) == rests + 1


async def test_a_wave_of_nothing_switches_it_off() -> None:
    machine = Machine(0.0)
    for _ in range(5):
        await machine.batch()
    assert machine.slept == []
