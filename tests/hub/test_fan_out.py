"""The end of a batch from the bus: what it brought is written, and only what was written makes the loop rest."""

import asyncio

from hub.connection import Connection
from hub.fan_out import FanOut
from hub.flusher import Flusher
from hub.registry import Registry
from hub.waves import Waves


class Reader:
    """A device that takes what it is given."""

    def __init__(self) -> None:
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1


async def batches(count: int, reader: Reader | None) -> list[float]:
    """How long the loop rested while so many batches came close together, each with something for `reader`."""
    loop = asyncio.get_running_loop()
    now, slept = 100.0, list[float]()
    flusher = Flusher(loop)
    waves = Waves(loop, 0.003, clock=lambda: now, sleep=slept.append)
    fan_out = FanOut(Registry[Connection](10), flusher, waves, on_gap=lambda: None)
    for _ in range(count):
        now += 0.0005
        fan_out.on_batch()
        if reader is not None:
            flusher.dirty.append(reader)
        fan_out.on_batch_end()
        assert not flusher.in_batch
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return slept


async def test_what_a_batch_brought_is_written_at_its_end_and_the_loop_rests_under_load() -> None:
    reader = Reader()
    assert await batches(5, reader)
    assert reader.flushes == 5


async def test_what_comes_for_devices_that_do_not_read_lets_nobody_wait() -> None:
    assert await batches(5, None) == []
