"""A loop that stood still is seen by the timer that came late."""

import asyncio
import time
from random import Random

from shared.telemetry.loop_delay import LoopDelay


async def test_a_loop_that_stood_still_is_late_and_one_that_was_closed_is_not_looked_at() -> None:
    delays: list[float] = []
    seen = asyncio.Event()

    def on_delay(delay: float) -> None:
        delays.append(delay)
        seen.set()

    watch = LoopDelay(period_s=0.01, rand=Random(1), on_delay=on_delay)
    watch.start()
    async with asyncio.timeout(10):
        await seen.wait()
    time.sleep(0.1)
    seen.clear()
    async with asyncio.timeout(10):
        await seen.wait()
    assert max(delays) >= 0.08
    assert min(delays) >= 0
    watch.close()
    count = len(delays)
    await asyncio.sleep(0.03)
    assert len(delays) == count
