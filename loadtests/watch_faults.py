"""Schedules of faults on real processes: `python -m loadtests.watch_faults [--schedules 100] [--divide 20]`.

Three watchers, a Postgres, a Valkey and an emulated Graph, all as processes. In each schedule people put, overwrite,
move and remove files at Graph and in the local folder while watchers are killed and stopped, Valkey is flushed or
killed, Postgres' connections are cut, cursors are forgotten in the middle of pages and the provider answers 429 or 503.
Then all heals, and every file that is there has exactly one job for its newest content, and no content has two.
"""

import argparse
import asyncio
import base64
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from loadtests.watching.scene import Graph, Scene, running_graph_process, running_scene

_RESULTS: Final = Path(__file__).parent / "results"
_NAMES: Final = ("w1", "w2", "w3")
_DEVICES: Final = [f"truck-{number}" for number in range(12)]
_TROUBLE_S: Final = 6.0


class Site:
    """What people did, so that it is known what must be found."""

    def __init__(self, scene: Scene, graph: Graph, rand: Random) -> None:
        self.scene = scene
        self.graph = graph
        self.rand = rand
        self.there: dict[str, str] = {}
        """Content by path, at Graph."""
        self.local: set[str] = set()
        self.number = 0
        self.faults: list[str] = []

    async def act(self) -> None:
        """One thing that people do."""
        rand = self.rand
        self.number += 1
        what = rand.choice(["new", "new", "new", "local", "again", "remove", "rename", "folder"])
        if what == "local":
            path = f"Requests/{rand.choice(_DEVICES)}/l{self.number}.csv"
            self.scene.move_in(path, path.encode())
            self.local.add(path)
        elif what == "again" and self.there:
            path = rand.choice(sorted(self.there))
            await self._put(path, f"again {self.number}")
        elif what == "remove" and self.there:
            path = rand.choice(sorted(self.there))
            del self.there[path]
            await self.graph.order(remove=path)
        elif what == "rename" and self.there:
            path = rand.choice(sorted(self.there))
            to = f"{path.rpartition('/')[0]}/r{self.number}.csv"
            self.there[to] = self.there.pop(path)
            await self.graph.order(rename={"path": path, "to": to})
        elif what == "folder" and (
            folders := sorted({one.rpartition("/")[0] for one in self.there if one.count("/") > 2})
        ):
            folder = rand.choice(folders)
            to = f"{folder.rpartition('/')[0]}/f{self.number}"
            self.there = {
                (to + one[len(folder) :] if one.startswith(f"{folder}/") else one): text
                for one, text in self.there.items()
            }
            await self.graph.order(rename={"path": folder, "to": to})
        else:
            deeper = rand.choice(["", "", "/in", "/in/deep"])
            await self._put(f"Requests/{rand.choice(_DEVICES)}{deeper}/n{self.number}.csv", f"new {self.number}")

    async def _put(self, path: str, text: str) -> None:
        self.there[path] = text
        content = base64.b64encode(text.encode()).decode()
        await self.graph.order(put={"path": path, "content": content})

    async def strike(self) -> None:
        """One fault."""
        rand, scene = self.rand, self.scene
        kind = rand.choice(
            ["kill", "kill", "stop", "stop", "flush", "postgres", "expire", "expire", "storm", "cut", "redis"]
        )
        self.faults.append(kind)
        name = rand.choice(_NAMES)
        watcher = scene.watchers[name]
        if kind == "kill":
            watcher.kill()
            await asyncio.sleep(rand.choice([0.0, rand.uniform(0, 3)]))
            scene.start(name, **self.graph.settings())
        elif kind == "stop":
            watcher.signal(signal.SIGSTOP)
            await asyncio.sleep(rand.uniform(0.2, 3.0))
            watcher.signal(signal.SIGCONT)
        elif kind == "flush":
            await self._redis("flushall")
        elif kind == "redis":
            pid = scene.stand.pids["valkey"]
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(rand.uniform(0.2, 3.0))
            os.kill(pid, signal.SIGCONT)
        elif kind == "postgres":
            try:
                await scene.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%watcher'"
                )
            except OSError:
                pass
        elif kind == "expire":
            await self.graph.order(expire_tokens=True)
        elif kind == "storm":
            await self.graph.order(
                faults=[{"call": "*", "status": 429, "retry_after": "1", "times": rand.randrange(1, 4)}]
            )
        else:
            cut = rand.choice(["cut_request", "lose_answer", "cut_answer"])
            await self.graph.order(faults=[{"call": "delta", "kind": cut, "times": rand.randrange(1, 6)}])

    async def heal(self) -> None:
        """Nothing fails any more."""
        await self.graph.order(clear_faults=True)
        for name in _NAMES:
            self.scene.watchers[name].signal(signal.SIGCONT)

    async def _redis(self, command: str) -> None:
        client = redis.asyncio.Redis.from_url(self.scene.stand.valkey.url)
        try:
            await client.execute_command(command)  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            pass
        finally:
            await client.aclose()

    async def problems(self) -> list[str]:
        """What is not as it must be; empty once all is."""
        rows = await self.scene.query(
            "SELECT path, sha256, content_version, item_id, state FROM items WHERE feed_id = $1", "sharepoint"
        )
        ledger = {row["path"]: row for row in rows}
        found = [f"missing: {path}" for path in self.there if path not in ledger]
        found += [f"left over: {path}" for path in ledger if path not in self.there]
        jobs = await self.scene.query(
            "SELECT object_id, content_version, device_id, count(*) AS jobs FROM jobs WHERE store = 'sharepoint' "
            "GROUP BY 1, 2, 3"
        )
        by_version = {(row["object_id"], row["content_version"]): row["jobs"] for row in jobs}
        found += [f"announced {count} times: {key}" for key, count in by_version.items() if count > 1]
        found += [
            f"not announced: {path}"
            for path, row in ledger.items()
            if path in self.there and (row["item_id"], row["content_version"]) not in by_version
        ]
        local = await self.scene.query("SELECT path, count(*) AS jobs FROM jobs WHERE store = 'local' GROUP BY path")
        counts = {row["path"]: row["jobs"] for row in local}
        found += [f"local, {counts.get(path, 0)} times: {path}" for path in self.local if counts.get(path) != 1]
        return found

    async def newest(self) -> list[str]:
        """Paths whose recorded size is not that of the newest content."""
        rows = await self.scene.query("SELECT path, size FROM items WHERE feed_id = $1", "sharepoint")
        sizes = {row["path"]: row["size"] for row in rows}
        return [f"old content: {path}" for path, text in self.there.items() if sizes.get(path) != len(text)]


async def _schedule(site: Site, seed: int) -> list[str]:
    """Play one; what did not hold at its end."""
    rand = site.rand = Random(seed)
    site.faults.clear()
    end = time.monotonic() + _TROUBLE_S

    async def people() -> None:
        while time.monotonic() < end:
            await site.act()
            await asyncio.sleep(rand.expovariate(8))

    async def fate() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(rand.expovariate(1.0))
            await site.strike()

    await asyncio.gather(people(), fate())
    await site.heal()
    problems: list[str] = ["not looked yet"]

    async def well() -> bool:
        nonlocal problems
        problems = [*await site.problems(), *await site.newest()]
        return not problems

    try:
        await site.scene.until("all found", well, deadline_s=60, every_s=0.3)
    except RuntimeError:
        return problems
    # What is announced twice would be by now.
    await asyncio.sleep(0.5)
    return await site.problems()


def _keep_logs(folder: Path) -> None:
    """What the watchers said, for somebody to read after the run's own folder is gone."""
    kept = _RESULTS / "watch_faults_logs"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, kept)
    print(f"the watchers' logs are in {kept}", flush=True)


async def _play(scene: Scene, given: argparse.Namespace) -> dict[str, Any]:
    await scene.stand.make_devices(_DEVICES)
    broken: list[str] = []
    faults = 0
    async with running_graph_process(scene.folder / "graph") as graph:
        await graph.order(manners={"page_size": 3, "repeat_rows": 0.2})
        for name in _NAMES:
            scene.start(name, **graph.settings())
        await scene.until_shared(_NAMES)
        site = Site(scene, graph, Random(0))
        began = time.monotonic()
        for number in range(given.schedules):
            problems = await _schedule(site, given.first + number)
            faults += len(site.faults)
            if problems:
                broken.append(f"seed {given.first + number}: {problems[:5]}; faults: {site.faults}")
                print(broken[-1], flush=True)
                _keep_logs(scene.folder)
                break
            if (number + 1) % 5 == 0:
                print(
                    f"{number + 1} of {given.schedules}, {faults} faults, {time.monotonic() - began:.0f} s", flush=True
                )
        (row,) = await scene.query("SELECT count(*) AS jobs FROM jobs")
        (terms,) = await scene.query("SELECT sum(term)::bigint AS terms FROM leases")
    return {
        "schedules": number + 1,
        "broken": len(broken),
        "faults": faults,
        "acts": site.number,
        "jobs": row["jobs"],
        "terms": terms["terms"],
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    """Play them one after the other, with progress; a JSON file at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=100)
    parser.add_argument("--divide", type=float, default=20.0)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    given = parser.parse_args()
    settings = {
        "FLEETWIRE_WATCHER_REMOTE_ACTIVE_S": "0.1",
        "FLEETWIRE_WATCHER_REMOTE_IDLE_S": "0.5",
        "FLEETWIRE_REDIS_DEADLINE_S": "0.2",
        "FLEETWIRE_WATCHER_RESCAN_S": "3",
    }
    with running_scene(divide=given.divide, **settings) as scene:
        result = asyncio.run(_play(scene, given))
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "watch_faults.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result))
    return 1 if result["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
