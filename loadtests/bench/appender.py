"""Records events and publishes them as the API and the workers do, at a rate, in a process of its own.

Orders come as JSON lines: Postgres, Redis and devices first, then one line for each stretch (`rate`, `seconds`), each
answered by one line. Events are due at even intervals and carry the time they were due (`sent_ns`), so an appender
that runs late does not look quick. What falls due while a batch is being committed goes into the next one.
"""

import asyncio
import json
import math
import sys
import time
from itertools import count
from typing import Any, Final

import uvloop

from loadtests.process import cpu_seconds
from shared.bus.message import EVENT, Message
from shared.bus.publisher import Publisher
from shared.protocol.event import body_hash, encode_event
from shared.store import log
from shared.store.pool import Pool, open_pool

__all__ = ["Appender"]

BATCH_MAX: Final = 500
AT_ONCE: Final = 2  # batches under way, as with two API processes or two workers
TURN_S: Final = 0.005
_FILLER: Final = "x" * 60


class Appender:
    """`stretch()` records at a rate for some time, devices in turn."""

    def __init__(self, pool: Pool, publisher: Publisher, devices: list[str]) -> None:
        self._pool = pool
        self._publisher = publisher
        self._devices = devices
        self._numbers = count(1)

    async def stretch(self, rate: float, seconds: float) -> dict[str, Any]:
        """Record `rate * seconds` events, giving up on what is not begun by the end."""
        began, cpu = time.monotonic(), cpu_seconds()
        due, late_s, recorded = 0, 0.0, 0
        under_way: set[asyncio.Task[int]] = set()
        while (now := time.monotonic()) < began + seconds:
            wanted = min(math.floor((now - began) * rate), due + BATCH_MAX)
            if wanted > due and len(under_way) < AT_ONCE:
                late_s = max(late_s, now - began - due / rate)
                under_way.add(asyncio.create_task(self._record(began, rate, range(due, wanted))))
                due = wanted
            elif under_way and len(under_way) >= AT_ONCE:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                recorded += sum(task.result() for task in done)
            else:
                await asyncio.sleep(TURN_S)
        recorded += sum(await asyncio.gather(*under_way))
        took = time.monotonic() - began
        return {
            "wanted": math.floor(rate * seconds),
            "recorded": recorded,
            "seconds": round(took, 3),
            "late_s": round(late_s, 3),
            "cpu_s": round(cpu_seconds() - cpu, 2),
        }

    async def _record(self, began: float, rate: float, numbers: range) -> int:
        news = [self._event(began + number / rate) for number in numbers]
        appended = await log.append_committed(self._pool, news)
        for new, result in zip(news, appended, strict=True):
            if result.status != "recorded":
                raise RuntimeError(f"{new.event_id}: {result.status}")
            self._publisher.offer(Message(EVENT, new.device_id, result.epoch, result.seq, new.body))
        return len(news)

    def _event(self, due: float) -> log.NewEvent:
        number = next(self._numbers)
        device_id = self._devices[number % len(self._devices)]
        data = {"sent_ns": int(due * 1e9), "filler": _FILLER}
        event_id = f"path-{number}"
        body = encode_event(
            event_id=event_id, event_type="Path", source="/path", time="2026-01-01T00:00:00Z", data=data
        )
        return log.NewEvent(device_id, event_id, "Path", body, body_hash("Path", data))


async def serve(orders: dict[str, Any]) -> None:
    """Open both, then a stretch for each line."""
    pool = await open_pool(orders["database_url"], name="appender", min_size=AT_ONCE, max_size=AT_ONCE)
    publisher = Publisher(orders["redis_url"], name="appender")
    publishing = asyncio.create_task(publisher.run())
    try:
        appender = Appender(pool, publisher, orders["devices"])
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            stretch = json.loads(line)
            print(json.dumps(await appender.stretch(stretch["rate"], stretch["seconds"])), flush=True)
    finally:
        await publisher.close()
        await publishing
        await pool.close()


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.stdin.readline())))
