"""The local folder under load: `python -m loadtests.local_feed [--devices 1000] [--rate 500] [--seconds 60]`.

So many devices, so many files moved in a second, evenly. `seen` is from the move to the commit of the job's row. Then
the kernel's queue of notices is made to overflow, by stopping the watcher while more files come than the queue holds,
and nothing may be missed.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

from loadtests.process import cpu_seconds
from loadtests.watching.scene import Scene, percentile, running_scene

_RESULTS: Final = Path(__file__).parent / "results"
_QUEUE: Final = Path("/proc/sys/fs/inotify/max_queued_events")


async def _load(scene: Scene, devices: list[str], given: argparse.Namespace) -> dict[str, Any]:
    moved: dict[str, float] = {}
    every, began = 1.0 / given.rate, time.time()
    total = int(given.rate * given.seconds)
    pid = scene.watchers["w1"].pid
    cpu = cpu_seconds(pid)

    def move(first: int, last: int) -> None:
        for number in range(first, last):
            path = f"Requests/{devices[number % len(devices)]}/load-{number}.csv"
            due = began + number * every
            if (wait := due - time.time()) > 0:
                time.sleep(wait)
            moved[path] = time.time()
            scene.move_in(path, b"load")

    for first in range(0, total, given.rate):
        await asyncio.to_thread(move, first, min(total, first + given.rate))
    late = time.time() - began - given.seconds

    async def all_recorded() -> bool:
        (row,) = await scene.query("SELECT count(*) AS jobs FROM jobs WHERE name LIKE 'load-%'")
        return int(row["jobs"]) >= total

    await scene.until("all recorded", all_recorded, deadline_s=60, every_s=0.2)
    rows = await scene.query(
        "SELECT path, extract(epoch FROM created_at)::double precision AS at FROM jobs WHERE name LIKE 'load-%'"
    )
    seen = [row["at"] - moved[row["path"]] for row in rows]
    return {
        "devices": len(devices),
        "files": total,
        "rows": len(rows),
        "rate": round(total / (given.seconds + max(0.0, late)), 1),
        "seen_p50_ms": round(1000 * percentile(seen, 0.5), 1),
        "seen_p99_ms": round(1000 * percentile(seen, 0.99), 1),
        "seen_max_ms": round(1000 * max(seen), 1),
        "watcher_cpu_s": round(cpu_seconds(pid) - cpu, 2),
    }


async def _overflow(scene: Scene, devices: list[str]) -> dict[str, Any]:
    count = int(_QUEUE.read_text()) + 2000
    watcher = scene.watchers["w1"]
    watcher.signal(signal.SIGSTOP)

    def move() -> None:
        for number in range(count):
            scene.move_in(f"Requests/{devices[number % len(devices)]}/flood-{number}.csv", b"flood")

    await asyncio.to_thread(move)
    watcher.signal(signal.SIGCONT)
    began = time.monotonic()

    async def recorded() -> bool:
        (row,) = await scene.query("SELECT count(*) AS jobs FROM jobs WHERE name LIKE 'flood-%'")
        return int(row["jobs"]) >= count

    await scene.until("all of the flood recorded", recorded, deadline_s=300, every_s=0.5)
    (row,) = await scene.query(
        "SELECT count(DISTINCT path) AS files, count(*) AS jobs FROM jobs WHERE name LIKE 'flood-%'"
    )
    return {
        "files": count,
        "overflows": len(watcher.said("file notices were lost, scanning everything")),
        "missed": count - int(row["files"]),
        "twice": int(row["jobs"]) - int(row["files"]),
        "seconds": round(time.monotonic() - began, 1),
    }


async def _play(scene: Scene, given: argparse.Namespace) -> dict[str, Any]:
    devices = [f"truck-{number}" for number in range(given.devices)]
    await scene.stand.make_devices(devices)
    for device in devices:
        (scene.root / "Requests" / device).mkdir(parents=True)
    scene.start("w1")
    await scene.until_shared(["w1"])
    await scene.until_scanned()
    result = {"load": await _load(scene, devices, given)}
    print(json.dumps(result["load"]), flush=True)
    if not given.without_overflow:
        result["overflow"] = await _overflow(scene, devices)
    return result


def main() -> int:
    """Run, print and keep the figures; 1 when one is beyond what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--without-overflow", action="store_true")
    given = parser.parse_args()
    with running_scene() as scene:
        result = asyncio.run(_play(scene, given))
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "local_feed.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result))
    flood = result.get("overflow")
    fine = result["load"]["seen_p99_ms"] <= 150 and result["load"]["rows"] == result["load"]["files"]
    return 0 if fine and (flood is None or (flood["missed"] == flood["twice"] == 0 and flood["overflows"] > 0)) else 1


if __name__ == "__main__":
    sys.exit(main())
