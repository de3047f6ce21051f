"""A drive with many files whose cursor is forgotten: `python -m loadtests.resync [--items 100000]`.

An emulated Graph, one watcher. Everything is read once; then files are removed, added and overwritten behind a cursor
that the provider forgets (410), and everything is read anew: nothing lost, nothing announced twice. The requests and
units that it took, the time and the watcher's memory are told.
"""

import argparse
import asyncio
import base64
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from loadtests.watching.scene import Graph, Scene, running_graph_process, running_scene

_RESULTS: Final = Path(__file__).parent / "results"
_FOLDERS: Final = 50
_CHANGES: Final = 50


class _Memory:
    """The watcher's resident memory, looked at every half second."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.most = 0

    async def look(self) -> None:
        while True:
            self.most = max(self.most, self._scene.watchers["w1"].resident)
            await asyncio.sleep(0.5)


async def _until_read(scene: Scene, generation: int, deadline_s: float) -> float:
    async def read() -> bool:
        rows = await scene.query(
            "SELECT phase, generation, full_items FROM feeds WHERE provider = 'sharepoint' AND baseline_at IS NOT NULL"
        )
        return bool(rows) and rows[0]["phase"] == "changes" and rows[0]["generation"] >= generation

    return await scene.until("everything read", read, deadline_s=deadline_s, every_s=0.2)


async def _jobs(scene: Scene) -> tuple[int, int, int]:
    (row,) = await scene.query(
        "SELECT count(*) AS jobs, count(DISTINCT (object_id, content_version)) AS versions, "
        "(SELECT count(*) FROM items WHERE feed_id LIKE 'sharepoint%') AS items FROM jobs"
    )
    return row["jobs"], row["versions"], row["items"]


async def _play(scene: Scene, graph: Graph, items: int) -> dict[str, Any]:
    await scene.stand.make_devices([f"truck-{number}" for number in range(_FOLDERS)])
    await graph.order(manners={"page_size": 1000})
    for first in range(0, items, 10_000):
        await graph.order(
            fill={"folder": "Requests", "count": min(10_000, items - first), "first": first, "folders": _FOLDERS}
        )
    scene.start("w1", **graph.settings())
    memory = _Memory(scene)
    looking = asyncio.create_task(memory.look())
    await asyncio.sleep(2.0)
    base = scene.watchers["w1"].resident
    before = await graph.order()
    first_s = await _until_read(scene, 1, 900)
    after_first = await graph.order()
    first_most = memory.most
    jobs = await _jobs(scene)
    result: dict[str, Any] = {
        "items": items,
        "first_run": {
            "seconds": round(first_s, 1),
            "requests": _requests(after_first) - _requests(before),
            "units": after_first["units"] - before["units"],
            "jobs": jobs[0],
            "in_the_ledger": jobs[2],
            "resident_mib": first_most >> 20,
        },
    }
    print(json.dumps(result), flush=True)
    # Nobody is told of these but by the run.
    await graph.order(expire_tokens=True)
    for number in range(_CHANGES):
        folder = f"Requests/truck-{number % _FOLDERS}"
        await graph.order(remove=f"{folder}/{number:07}.txt")
        await graph.order(put={"path": f"{folder}/new-{number}.txt", "content": _text(f"new {number}")})
        again = number + _FOLDERS
        await graph.order(put={"path": f"{folder}/{again:07}.txt", "content": _text(f"again {number}")})
    began = await graph.order(expire_tokens=True)
    memory.most = 0
    resync_s = await _until_read(scene, 2, 900)
    ended = await graph.order()
    looking.cancel()
    jobs = await _jobs(scene)
    result["resync"] = {
        "seconds": round(resync_s, 1),
        "requests": _requests(ended) - _requests(began),
        "units": ended["units"] - began["units"],
        "lost": items + 2 * _CHANGES - jobs[1],
        "twice": jobs[0] - jobs[1],
        "files": ended["files"],
        "in_the_ledger": jobs[2],
        "resident_mib": memory.most >> 20,
        "resident_at_start_mib": base >> 20,
    }
    return result


def _requests(said: dict[str, Any]) -> int:
    calls = said["calls"]
    return sum(calls.values()) if isinstance(calls, dict) else int(calls)


def _text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def _run(scene: Scene, items: int) -> dict[str, Any]:
    async with running_graph_process(scene.folder / "graph") as graph:
        return await _play(scene, graph, items)


def main() -> int:
    """Run, print and keep the figures; 1 when anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    given = parser.parse_args()
    began = time.monotonic()
    with running_scene() as scene:
        result = asyncio.run(_run(scene, given.items))
    result["total_s"] = round(time.monotonic() - began, 1)
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "resync.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result))
    again = result["resync"]
    return 0 if again["lost"] == again["twice"] == 0 and again["files"] == again["in_the_ledger"] else 1


if __name__ == "__main__":
    sys.exit(main())
