"""Record how many devices each hub holds while a fleet wakes up, loses a hub, and goes to sleep.

What the autoscaler's arithmetic is tried on (tests/infra/scaling/curves): a real fleet does not come evenly, a hub that
dies gives its devices to the others within seconds, and its own metric is missing meanwhile. A row is what a scrape of
every hub saw; an empty field is a hub that did not answer.
"""

import argparse
import asyncio
import csv
import os
import re
import secrets
import signal
import time
from pathlib import Path
from typing import Final

import httpx
import uvloop

from infra.onebox.running import Running
from loadtests.crowd import Crowd
from loadtests.driver.run import Target
from loadtests.machine import Machine, running_machine

__all__ = ["main"]

SCRAPE_S: Final = 5.0
_CONNECTIONS: Final = re.compile(r"^fleetwire_hub_connections (\S+)$", re.MULTILINE)


class Recorder:
    """Scrapes as Prometheus does, with its deadline, and writes rows."""

    def __init__(self, machine: Machine, hubs: int) -> None:
        self.names = [f"hub-{number}" for number in range(1, hubs + 1)]
        self._machine = machine
        self.rows: list[list[str]] = []

    async def run(self) -> None:
        """Until cancelled."""
        began = time.monotonic()
        async with httpx.AsyncClient(trust_env=False, timeout=SCRAPE_S - 1) as client:
            while True:
                now = time.monotonic() - began
                running = Running.read(self._machine.home)
                ports = running.ops if running is not None else {}
                seen = await asyncio.gather(*(self._scrape(client, ports.get(name)) for name in self.names))
                self.rows.append([f"{now:.0f}", *seen])
                await asyncio.sleep(max(0.0, began + len(self.rows) * SCRAPE_S - time.monotonic()))

    @staticmethod
    async def _scrape(client: httpx.AsyncClient, port: int | None) -> str:
        if port is None:
            return ""
        try:
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
        except httpx.HTTPError:
            return ""
        found = _CONNECTIONS.search(answer.text)
        return f"{float(found[1]):.0f}" if found else ""


async def _record(machine: Machine, options: argparse.Namespace) -> Recorder:
    target = Target(machine.api, machine.hubs, machine.keys)
    crowd = Crowd(target, run=f"curve-{secrets.token_hex(3)}", most=options.high, rate=options.rate)
    recorder = Recorder(machine, options.hubs)
    tasks = [asyncio.create_task(crowd.run()), asyncio.create_task(recorder.run())]

    async def slope(seconds: float, first: int, last: int) -> None:
        begun = time.monotonic()
        while (part := (time.monotonic() - begun) / seconds) < 1:
            crowd.resize(first + round((last - first) * part))
            await asyncio.sleep(0.2)
        crowd.resize(last)

    try:
        await slope(10.0, 0, options.low)
        await asyncio.sleep(options.hold)
        await slope(options.up, options.low, options.high)
        await asyncio.sleep(options.hold)
        os.kill(machine.pid(f"hub-{options.hubs}"), signal.SIGKILL)
        await asyncio.sleep(2 * options.hold)
        await slope(options.down, options.high, options.low)
        await asyncio.sleep(options.hold)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await crowd.close()
    return recorder


def main(arguments: list[str] | None = None) -> int:
    """Record, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.connection_curve", description=__doc__)
    add = parser.add_argument
    add("--hubs", type=int, default=3)
    add("--low", type=int, default=100, help="devices at the beginning and at the end")
    add("--high", type=int, default=1200, help="devices at the top")
    add("--up", type=float, default=240.0, help="seconds of the way up")
    add("--hold", type=float, default=30.0, help="seconds of each level")
    add("--down", type=float, default=120.0, help="seconds of the way down")
    add("--rate", type=float, default=20.0, help="events per second over all devices")
    add("file", type=Path, help="where the rows go, as CSV")
    options = parser.parse_args(arguments)
    with running_machine(hubs=options.hubs) as machine:
        recorder = uvloop.run(_record(machine, options))
    with options.file.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seconds", *recorder.names])
        writer.writerows(recorder.rows)
    print(f"{len(recorder.rows)} rows in {options.file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
