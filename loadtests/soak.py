"""`make soak`: devices held, events flowing, links cut for a long time.

Memory, descriptors, threads and tasks must stay flat, as `vitals` defines it.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import httpx
import uvloop
from rich.console import Console
from rich.progress import Progress

from infra.onebox.running import Running
from loadtests.chaos.faults import query
from loadtests.driver.fleet import Fleet, FleetOptions
from loadtests.driver.history import Verdict
from loadtests.machine import Machine, running_machine
from loadtests.process import resident_bytes
from loadtests.vitals import Series, read_vitals, rising

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
WATCHED = ("hub-1", "hub-2", "api", "watcher-1", "worker-1", "files")


def sample(machine: Machine, series: dict[str, Series], at_s: float) -> None:
    """Read /proc of every process that is watched, and ask it how many tasks it has."""
    pids = machine.pids()
    running = Running.read(machine.home)
    for name in WATCHED:
        pid = pids[name]
        status = Path(f"/proc/{pid}/status").read_text()
        threads = int(status.split("Threads:")[1].split()[0])
        figures = {
            "rss_mib": resident_bytes(pid) / 2**20,
            "descriptors": float(len(list(Path(f"/proc/{pid}/fd").iterdir()))),
            "threads": float(threads),
        }
        port = running.ops.get(name, running.ops.get(name.partition("-")[0])) if running else None
        if port and (tasks := read_vitals(port).get("tasks")) is not None:
            figures["tasks"] = tasks
        for what, value in figures.items():
            series.setdefault(f"{name} {what}", Series()).add(at_s, value)


async def publish(machine: Machine, devices: Sequence[str], rate: float, until: float) -> None:
    """Events by REST, in batches, to the devices in turn."""
    headers = {"Authorization": f"Bearer {machine.token('load', 'service', lifetime_s=86400)}"}
    number, start = 0, time.monotonic()
    async with httpx.AsyncClient(base_url=machine.api, timeout=10, headers=headers) as client:
        while time.monotonic() < until:
            count = min(int((time.monotonic() - start) * rate) - number, 500)
            batch = [
                {
                    "device_id": devices[(number + n) % len(devices)],
                    "type": "Soak",
                    "id": f"soak-{number + n}",
                    "data": {"sent_ns": time.monotonic_ns()},
                }
                for n in range(count)
            ]
            number += len(batch)
            if batch:
                (await client.post("/api/v1/events", json={"events": batch})).raise_for_status()
            await asyncio.sleep(0.1)


async def soak(machine: Machine, *, devices: int, rate: float, minutes: float, console: Console) -> dict[str, object]:
    """Run for `minutes` and judge."""
    names = [f"soak-{number}" for number in range(devices)]
    tokens = {name: machine.token(name, "device") for name in names}
    urls = [f"{url}/v1/socket" for url in machine.hubs]
    rand = Random(1)
    fleet = Fleet(
        names, lambda name: (urls[hash(name) % len(urls)], tokens[name]), FleetOptions(connects_at_once=50), rand
    )
    fleet.start_all()
    if not await fleet.all_welcomed(60):
        raise RuntimeError(f"only {fleet.totals.welcomed} of {devices} devices were welcomed: {fleet.totals}")
    start = time.monotonic()
    end = start + minutes * 60
    publishing = asyncio.create_task(publish(machine, names, rate, end))
    series: dict[str, Series] = {}
    with Progress(console=console) as progress:
        task = progress.add_task("soaking", total=minutes * 60)
        while time.monotonic() < end and not publishing.done():
            await asyncio.to_thread(sample, machine, series, time.monotonic() - start)
            for device in rand.sample(fleet.devices, max(1, devices // 100)):
                device.cut()  # churn: one in a hundred every few seconds
            await asyncio.sleep(min(5.0, max(minutes, 0.2)))
            progress.update(task, completed=time.monotonic() - start)
    await publishing
    for row in await asyncio.to_thread(
        query, machine, "SELECT device_id, event_id FROM events WHERE type = 'Soak' ORDER BY device_id, seq"
    ):
        fleet.history.recorded(row["device_id"], [row["event_id"]])
    recorded = fleet.history.judge().recorded
    await fleet.until(lambda: fleet.totals.events >= recorded, 30)
    await fleet.stop()
    verdict: Verdict = fleet.history.judge()
    up = rising(series)
    console.print(f"{verdict}\nlatency {fleet.latencies}\nrising: {', '.join(up) or 'nothing'}")
    for name, one in series.items():
        console.print(f"  {name:24} {one.values[0]:8.1f} → {one.values[-1]:8.1f}")
    return {
        "passed": verdict.passed and not up,
        "verdict": verdict.__dict__,
        "latency": fleet.latencies.summary(),
        "rising": up,
        "series": {name: [one.seconds, one.values] for name, one in series.items()},
    }


def main() -> int:
    """Soak, print, save."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--rate", type=float, default=200)
    options = parser.parse_args()
    console = Console()
    with running_machine(FLEETWIRE_HUB_CAPACITY=str(options.devices)) as machine:
        result = uvloop.run(
            soak(machine, devices=options.devices, rate=options.rate, minutes=options.minutes, console=console)
        )
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"soak-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(result) + "\n")
    console.print(f"{'[green]passed' if result['passed'] else '[red]FAILED'}[/], saved to {file}")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
