"""The whole path on one machine: a file moved into the cloud folder → the frame on the device's socket, no-op handler.

Then a folder made and written in one go, a thousand times, which is where a watcher that adds its watch too late
misses files.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import uvloop
from rich.console import Console
from rich.progress import Progress

from loadtests.chaos.faults import query
from loadtests.driver.fleet import Fleet, FleetOptions
from loadtests.driver.latency import Latencies
from loadtests.machine import Machine, running_machine

RESULTS = Path(__file__).parent / "results"


async def moved_files(
    machine: Machine, *, files: int, rate: float, devices: int, tick: Callable[[], None]
) -> Latencies:
    """Move files in at a rate and wait for each one's frame."""
    names = [f"path-{number}" for number in range(devices)]
    tokens = {name: machine.token(name, "device") for name in names}
    urls = [f"{url}/v1/socket" for url in machine.hubs]
    fleet = Fleet(names, lambda name: (urls[names.index(name) % len(urls)], tokens[name]), FleetOptions(), Random(1))
    fleet.start_all()
    if not await fleet.all_welcomed(30):
        raise RuntimeError(f"only {fleet.totals.welcomed} of {devices} devices were welcomed: {fleet.totals}")
    drafts = machine.cloud.parent / f"{machine.cloud.name}-load"
    drafts.mkdir(exist_ok=True)
    for name in names:
        (machine.cloud / "Requests" / name).mkdir(parents=True, exist_ok=True)
    moved_at: dict[str, float] = {}
    latencies = Latencies()

    def on_event(device_id: str, payload: bytes) -> None:
        now = time.monotonic()
        event = json.loads(payload)["event"]
        name = event["data"]["request"]["name"]
        latencies.add((now - moved_at.pop(name)) * 1000)
        tick()

    fleet.on_event = on_event
    await asyncio.sleep(2)
    start = time.monotonic()
    for number in range(files):
        draft = drafts / f"p{number}.noop"
        draft.write_bytes(b"x")
        target = machine.cloud / "Requests" / names[number % devices] / draft.name
        moved_at[draft.name] = time.monotonic()
        draft.rename(target)
        await asyncio.sleep(max(0.0, start + (number + 1) / rate - time.monotonic()))
    if not await fleet.until(lambda: not moved_at, 30):
        raise RuntimeError(f"{len(moved_at)} files brought no event: {list(moved_at)[:5]}")
    await fleet.stop()
    return latencies


def folders_in_one_go(machine: Machine, *, count: int, tick: Callable[[], None]) -> int:
    """Make a folder and write a file into it at once, `count` times. Returns how many brought no job."""
    device = "in-one-go"
    query(
        machine, "INSERT INTO devices (device_id, class, epoch) VALUES ($1, 'truck', 1) ON CONFLICT DO NOTHING", device
    )
    query(machine, "INSERT INTO cursors (device_id, epoch) VALUES ($1, 1) ON CONFLICT DO NOTHING", device)
    for number in range(count):
        folder = machine.cloud / "Requests" / device / f"f{number}"
        folder.mkdir(parents=True)
        (folder / f"g{number}.noop").write_bytes(b"x")
        tick()
    end, found = time.monotonic() + 20, 0
    while time.monotonic() < end and found < count:
        found = query(machine, "SELECT count(*) FROM jobs WHERE device_id = $1", device)[0][0]
        time.sleep(0.2)
    return count - found


def main() -> int:
    """Run both, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    console = Console()
    with (
        running_machine(keep=options.keep, FLEETWIRE_WORKER_NOOP="1") as machine,
        Progress(console=console) as progress,
    ):
        task = progress.add_task("files moved in", total=options.files)
        latencies = uvloop.run(
            moved_files(
                machine,
                files=options.files,
                rate=options.rate,
                devices=options.devices,
                tick=lambda: progress.advance(task),
            )
        )
        task2 = progress.add_task("folders in one go", total=options.folders)
        start = time.monotonic()
        missed = folders_in_one_go(machine, count=options.folders, tick=lambda: progress.advance(task2))
        took = time.monotonic() - start
    console.print(f"moved in → frame on the socket: {latencies}")
    console.print(f"folder made and written in one go: {missed} of {options.folders} missed ({took:.1f} s)")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"path-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps({"moved": latencies.summary(), "folders": options.folders, "missed": missed}) + "\n")
    return 1 if missed or latencies.percentile(50) > 40 or latencies.percentile(99) > 150 else 0


if __name__ == "__main__":
    raise SystemExit(main())
