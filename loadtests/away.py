"""A device comes back after thousands of events: over a long line (fast, half a second there and back), then over a
slow one of 64 kbit/s each way, with small and with large buffers before it.

Each time it must get exactly what was recorded meanwhile, in order, then live events, over one connection that nobody
cuts, with at most 1 MiB on its way, counted on the connection itself: frames sent by the hub less those whose ack has
reached it.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.progress import Progress

from device.route import State
from device.timing import Timing
from loadtests.fault_proxy import FaultProxy
from loadtests.in_flight import InFlight
from loadtests.machine import Machine, running_machine
from loadtests.ports import free_port
from loadtests.slow_link import SlowLink
from loadtests.watched_device import WatchedDevice, judge, publish

__all__ = ["IN_FLIGHT_MAX", "Absence", "Outcome", "return_after"]

RESULTS: Final = Path(__file__).parent / "results"
IN_FLIGHT_MAX: Final = 1024 * 1024
MODEM_BYTES_PER_S: Final = 8000.0
LIVE_EVENTS: Final = 20
_CONNECT_S: Final = 30.0


@dataclass(frozen=True)
class Absence:
    """What happens while the device is away, and the line it comes back over."""

    name: str
    events: int
    size: int
    link: SlowLink
    live_gap_s: float = 0.1
    deadline_s: float = 120.0


@dataclass(frozen=True)
class Outcome:
    """What was seen."""

    events: int
    caught_up_s: float
    received_mib: float
    in_flight_peak: int
    in_flight_peak_events: int
    connections: int
    exact: bool
    verdict: str
    passed: bool

    def __str__(self) -> str:
        return (
            f"{self.events:,} events ({self.received_mib:.1f} MiB) in {self.caught_up_s:.1f} s over "
            f"{self.connections} connection(s), at most {self.in_flight_peak:,} bytes and "
            f"{self.in_flight_peak_events} events in flight; {self.verdict}"
        )


async def return_after(
    machine: Machine, absence: Absence, *, port: int, timing: Timing | None = None, tick: Callable[[int], None]
) -> Outcome:
    """Let a device be away and come back. `port` is where the machine's hubs are reached."""
    device = WatchedDevice(machine, f"away-{absence.name}", timing=timing)
    hub = machine.hubs[0]
    async with FaultProxy(hub, port=port):
        await device.start()
        await device.until(lambda: device.state is State.LIVE, _CONNECT_S, "live before it goes away")
        await publish(machine, [device.device_id], 1)
        await device.until(lambda: len(device.shown) == 1, _CONNECT_S, "the first event")
        await device.stop()
    await publish(machine, [device.device_id], absence.events, size=absence.size)
    before = len(device.shown)
    missed = before + absence.events
    taps: list[InFlight] = []

    def tap() -> InFlight:
        taps.append(InFlight())
        return taps[-1]

    async with FaultProxy(hub, port=port, link=absence.link, taps=tap):
        begun = time.monotonic()
        await device.start()
        try:
            await device.until(lambda: device.state is State.LIVE, _CONNECT_S, "live when it is back")
            live = asyncio.create_task(_publish_live(machine, device.device_id, absence.live_gap_s))
            for part in range(1, 11):
                await _shown(device, before + absence.events * part // 10, absence.deadline_s)
                tick(absence.events // 10)
            caught_up_s = time.monotonic() - begun
            await live
            await _shown(device, missed + LIVE_EVENTS, absence.deadline_s)
        finally:
            await device.stop()
    verdict = await judge(machine, [device])
    seqs = [one.seq for one in device.shown]
    exact = seqs == list(range(1, missed + LIVE_EVENTS + 1)) and device.resets == 0
    peak = max(one.peak for one in taps)
    return Outcome(
        events=absence.events,
        caught_up_s=caught_up_s,
        received_mib=sum(one.sent for one in taps) / 2**20,
        in_flight_peak=peak,
        in_flight_peak_events=max(one.peak_events for one in taps),
        connections=len(taps),
        exact=exact,
        verdict=str(verdict),
        passed=verdict.passed and exact and len(taps) == 1 and peak <= IN_FLIGHT_MAX,
    )


async def _shown(device: WatchedDevice, count: int, deadline_s: float) -> None:
    await device.until(lambda: len(device.shown) >= count, deadline_s, f"{count} events shown")


async def _publish_live(machine: Machine, device_id: str, gap_s: float) -> None:
    for _ in range(LIVE_EVENTS):
        await publish(machine, [device_id], 1)
        await asyncio.sleep(gap_s)


def main() -> int:
    """Run all three, print, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.away", description=__doc__)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--only", default="", help="long, slow or deep")
    options = parser.parse_args()
    absences = [
        Absence("long", options.events, 6000, SlowLink(delay_s=0.25, buffer_bytes=4 * 2**20)),
        # 5,000 small events are 1.5 MB, three minutes at this rate.
        Absence("slow", options.events, 30, SlowLink(bytes_per_s=MODEM_BYTES_PER_S), live_gap_s=1.0),
        # A modem that takes all the hub may send and delivers it minutes later: here only the window bounds it.
        Absence(
            "deep",
            options.events // 10,
            5000,
            SlowLink(bytes_per_s=MODEM_BYTES_PER_S, buffer_bytes=4 * 2**20),
            live_gap_s=1.0,
            deadline_s=300,
        ),
    ]
    console, port = Console(), free_port()
    outcomes: dict[str, Outcome] = {}
    with (
        # The tap reads the seqs of frames, so they must not be compressed.
        running_machine(
            hubs=1, FLEETWIRE_PROXY_URL=f"ws://127.0.0.1:{port}", FLEETWIRE_HUB_COMPRESSION="off"
        ) as machine,
        Progress(console=console) as progress,
    ):
        for absence in absences:
            if options.only not in absence.name:
                continue
            task = progress.add_task(f"back over the {absence.name} line", total=absence.events)
            tick = partial(progress.advance, task)
            outcomes[absence.name] = uvloop.run(return_after(machine, absence, port=port, tick=tick))
            console.print(f"{absence.name}: {outcomes[absence.name]}")
    passed = all(outcome.passed for outcome in outcomes.values())
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"away-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps({name: outcome.__dict__ for name, outcome in outcomes.items()}) + "\n")
    console.print(f"{'[green]passed' if passed else '[red]FAILED'}[/], saved to {file}")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
