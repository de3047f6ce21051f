"""How often one event crosses Redis: receivers that Redis counted per publish, at 1, 2, 4 and 8 hubs, canaries apart.

Devices are connected each to the hub that owns its slot, so one event should have one receiver however many hubs
there are. Measured twice: by the publisher, which adds up what SPUBLISH answers, and by the hubs, which count what
came in. Both must be at most 1.05 per event, and no event may be lost, repeated or out of order.
"""

import argparse
import asyncio
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from infra.onebox.running import Running
from loadtests.machine import Machine, running_machine
from loadtests.stream import Stream
from loadtests.valkey_cluster import running_cluster

__all__ = ["main"]

RESULTS: Final = Path(__file__).parent / "results"
MOST: Final = 1.05
_COUNTED: Final = {
    'fleetwire_bus_published_total{role="publisher"}': "published",
    'fleetwire_bus_deliveries_total{role="publisher"}': "deliveries",
    "fleetwire_bus_received_total": "received",
    'fleetwire_bus_published_total{role="canary"}': "canaries",
}


async def counts(machine: Machine) -> dict[str, float]:
    """The counters of all processes, added up."""
    running = Running.read(machine.home)
    assert running is not None
    found = dict.fromkeys(_COUNTED.values(), 0.0)
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        for port in running.ops.values():
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            for line in text.splitlines():
                name, _, value = line.rpartition(" ")
                if name in _COUNTED:
                    found[_COUNTED[name]] += float(value)
    return found


async def measure(machine: Machine, hubs: int, options: argparse.Namespace) -> dict[str, Any]:
    """Events for a while, and what Redis and the hubs counted meanwhile."""
    stream = Stream(machine, options.devices, options.rate)
    await stream.connect()
    await asyncio.sleep(1.0)  # what the connecting itself published has arrived
    before = await counts(machine)
    flowing = asyncio.create_task(stream.run())
    await asyncio.sleep(options.seconds)
    stream.stopping = True
    await flowing
    await stream.fleet.until(lambda: stream.fleet.totals.events >= stream.publications.recorded, 15.0)
    await asyncio.sleep(1.0)
    after = await counts(machine)
    await stream.fleet.stop()
    spent = {name: after[name] - before[name] for name in before}
    verdict = stream.fleet.history.judge()
    events = max(1, stream.publications.recorded)
    return {
        "hubs": hubs,
        "devices": options.devices,
        "events": stream.publications.recorded,
        **{name: round(value) for name, value in spent.items()},
        "receivers_per_publish": round(spent["deliveries"] / max(1.0, spent["published"]), 4),
        "received_per_event": round(spent["received"] / events, 4),
        "lost": verdict.lost,
        "repeated": verdict.repeated,
        "out_of_order": verdict.out_of_order,
    }


def is_good(one: dict[str, Any]) -> bool:
    """Within the bound, and everything shown once and in order."""
    crossed = max(one["receivers_per_publish"], one["received_per_event"])
    return one["events"] > 0 and crossed <= MOST and not (one["lost"] or one["repeated"] or one["out_of_order"])


def main() -> int:
    """One machine per number of hubs."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.deliveries", description=__doc__)
    parser.add_argument("--hubs", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--rate", type=float, default=300, help="events per second over all devices")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--cluster", action="store_true", help="on a cluster of six instead of one Redis")
    options = parser.parse_args()
    console, found = Console(width=120), []
    for hubs in options.hubs:
        with ExitStack() as stack:
            if options.cluster:
                url = stack.enter_context(running_cluster()).url
                machine = stack.enter_context(running_machine(hubs=hubs, FLEETWIRE_REDIS_URL=url))
            else:
                machine = stack.enter_context(running_machine(hubs=hubs))
            found.append(uvloop.run(measure(machine, hubs, options)))
        console.print(f"{hubs} hub(s): {found[-1]['receivers_per_publish']} receivers per publish")
    table = Table("hubs", "events", "published", "receivers", "per publish", "received per event", "canaries", "l/r/o")
    for one in found:
        judged = f"{one['lost']}/{one['repeated']}/{one['out_of_order']}"
        names = ("hubs", "events", "published", "deliveries", "receivers_per_publish", "received_per_event", "canaries")
        table.add_row(*(str(one[name]) for name in names), judged)
    console.print(table)
    passed = all(is_good(one) for one in found)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"deliveries-{time.strftime('%Y%m%d-%H%M%S')}.json"
    result = {"passed": passed, "bound": MOST, "cluster": options.cluster, "runs": found}
    file.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"{'[green]passed' if passed else '[red]FAILED'}[/], saved to {file}")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
