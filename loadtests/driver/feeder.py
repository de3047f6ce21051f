"""Large events for many devices at a set rate, from a process of its own, so that making them slows nobody else.

Orders come as JSON lines: first {"database", "redis", "event_bytes"}; then {"feed": [ids], "bytes_per_s"} (so much for
each, until the next order), {"record": [ids], "bytes"} (so much at once for each, not published), or {"rest"}. Each is
answered by one JSON line that says what was recorded since the order before.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from shared.bus.message import EVENT, Message
from shared.bus.publisher import Publisher
from shared.clock import monotonic
from shared.protocol.event import body_hash, encode_event
from shared.store import log
from shared.store.pool import Pool, open_pool
from shared.telemetry import logs

__all__ = ["Feeder"]

_STATEMENT_BYTES: Final = 512 * 1024  # published as evenly as many senders would
_DEBT_S: Final = 0.5  # what could not be recorded in time is not made up for


class Feeder:
    """Records, and publishes if asked to."""

    def __init__(self, pool: Pool, publisher: Publisher, event_bytes: int) -> None:
        self._pool = pool
        self._publisher = publisher
        self._event_bytes = event_bytes
        self._data = {"filler": "x" * event_bytes}
        self._hash = body_hash("Feed", self._data)
        self._at_once = max(1, _STATEMENT_BYTES // event_bytes)
        self.recorded_bytes = 0

    async def record(self, device_ids: Sequence[str], *, publish: bool) -> None:
        """One event for each, in the order given."""
        for start in range(0, len(device_ids), self._at_once):
            news = []
            for device_id in device_ids[start : start + self._at_once]:
                event_id = str(uuid4())
                body = encode_event(
                    event_id=event_id, event_type="Feed", source="/feed", time="2026-01-01T00:00:00Z", data=self._data
                )
                news.append(log.NewEvent(device_id, event_id, "Feed", body, self._hash))
            results = await log.append_committed(self._pool, news)
            for new, result in zip(news, results, strict=True):
                self.recorded_bytes += len(new.body)
                if publish:
                    self._publisher.offer(Message(EVENT, new.device_id, result.epoch, result.seq, new.body))

    async def feed(self, device_ids: Sequence[str], bytes_per_s: float) -> None:
        """One event after the other for each device in turn, until cancelled."""
        per_s = len(device_ids) * bytes_per_s / self._event_bytes
        began, fed, turns = monotonic(), 0, itertools.cycle(device_ids)
        while True:
            due = int((monotonic() - began) * per_s)
            if due - fed > per_s * _DEBT_S:
                fed = due - int(per_s * _DEBT_S)
            turn = [next(turns) for _ in range(min(due - fed, self._at_once))]
            fed += len(turn)
            if turn:
                await self.record(turn, publish=True)
            else:
                await asyncio.sleep(1 / per_s)


async def _orders(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    line = await reader.readline()
    return json.loads(line) if line else None


async def _run() -> None:
    logs.configure("feeder", "warning", json=False)  # stdout is for answers
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 22)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    first = await _orders(reader)
    assert first is not None
    pool = await open_pool(first["database"], name="feeder", max_size=2)
    publisher = Publisher(first["redis"], name="feeder")
    publishing = asyncio.create_task(publisher.run())
    feeder = Feeder(pool, publisher, first["event_bytes"])
    feeding: asyncio.Task[None] | None = None
    print("{}", flush=True)
    while (order := await _orders(reader)) is not None:
        if feeding is not None:
            feeding.cancel()
            await asyncio.wait([feeding])
            if not feeding.cancelled():
                await feeding
            feeding = None
        recorded, feeder.recorded_bytes = feeder.recorded_bytes, 0
        if "feed" in order:
            feeding = asyncio.create_task(feeder.feed(order["feed"], order["bytes_per_s"]))
        elif "record" in order:
            for _ in range(-(-order["bytes"] // first["event_bytes"])):
                await feeder.record(order["record"], publish=False)
            recorded, feeder.recorded_bytes = feeder.recorded_bytes, 0
        print(json.dumps({"recorded_bytes": recorded}), flush=True)
    await publisher.close()
    publishing.cancel()
    await pool.close()


if __name__ == "__main__":
    asyncio.run(_run())
