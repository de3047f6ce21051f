"""The devices of a fault run: SDK clients in a process of their own, each writing down what its application was shown.

Orders as one JSON line on standard input: api, folder, tokens by device. Then `report` prints counts and latency since
the last report, `stop` closes all and prints everything that was shown, in order, by device.
"""

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from device.client import Client
from device.run import Reset, StateChange
from loadtests.driver.latency import Latencies

__all__: list[str] = []


class Observed:
    """What all devices of the process saw."""

    def __init__(self) -> None:
        self.shown: dict[str, list[tuple[str, int, bool]]] = {}
        self.states: Counter[str] = Counter()
        self.state_of: dict[str, str] = {}
        self.resets = 0
        self.latencies = Latencies()
        self.slowest: dict[str, float] = {}
        self.count = 0


async def run_device(device_id: str, token: str, orders: dict[str, Any], observed: Observed) -> None:
    """One device until cancelled."""
    shown = observed.shown.setdefault(device_id, [])

    def on_state(change: StateChange) -> None:
        observed.state_of[device_id] = change.state.name.lower()
        observed.states[change.state.name.lower()] += 1

    def on_reset(reset: Reset) -> None:
        observed.resets += 1

    folder = Path(orders["folder"]) / device_id
    async with Client(
        device_id, token=token, api=orders["api"], folder=folder, on_state=on_state, on_reset=on_reset
    ) as client:
        async for event in client:
            shown.append((event.id, event.position.seq, event.redelivered))
            observed.count += 1
            sent_ns = event.data.get("sent_ns")
            if isinstance(sent_ns, int):
                late_ms = (time.monotonic_ns() - sent_ns) / 1e6
                observed.latencies.add(late_ms)
                observed.slowest[device_id] = max(observed.slowest.get(device_id, 0.0), late_ms)


async def main() -> None:
    """Obey orders."""
    orders: dict[str, Any] = json.loads(sys.stdin.readline())
    observed = Observed()
    tasks = [
        asyncio.create_task(run_device(device_id, token, orders, observed))
        for device_id, token in orders["tokens"].items()
    ]
    print(json.dumps({"started": len(tasks)}), flush=True)
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while (await reader.readline()).strip() == b"report":
        failed = [repr(task.exception()) for task in tasks if task.done() and not task.cancelled()]
        report = {
            "count": observed.count,
            "latency": observed.latencies.summary(),
            "slowest_ms": observed.slowest,
            "states": Counter(observed.state_of.values()),
            "changes": observed.states,
            "resets": observed.resets,
            "failed": failed[:5],
        }
        observed.latencies, observed.slowest = Latencies(), {}
        print(json.dumps(report), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps({"shown": observed.shown, "resets": observed.resets}), flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(main())
