"""Real watchers on a Postgres and a Valkey of their own, over a local folder and, if wanted, an emulated Graph."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from infra.onebox.spawn import launch_arguments
from loadtests.emulators.graph_login import CLIENT_ID, CLIENT_SECRET, TENANT
from loadtests.process import resident_bytes
from loadtests.stand import Stand, running_stand

__all__ = ["TIMES", "Graph", "Scene", "Watcher", "percentile", "running_graph_process", "running_scene"]

# The deadlines of leases, as they are by default.
TIMES: Final = {
    "FLEETWIRE_WATCHER_HEARTBEAT_S": 10.0,
    "FLEETWIRE_WATCHER_LEASE_S": 30.0,
    "FLEETWIRE_WATCHER_TRUST_S": 20.0,
    "FLEETWIRE_WATCHER_MEMBERSHIP_S": 0.5,
    "FLEETWIRE_WATCHER_SILENCE_S": 15.0,
    "FLEETWIRE_WATCHER_QUIET_S": 0.5,
}


class Watcher:
    """A watcher process. What it says goes into a file."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                launch_arguments([sys.executable, "-m", "watcher"]),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def resident(self) -> int:
        """Bytes."""
        return resident_bytes(self.pid)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """At once, and waited for."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)

    def stop(self) -> int:
        """As an operator stops it."""
        self._process.terminate()
        return self._process.wait(30)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Lines of its log."""
        lines = [json.loads(line) for line in self.log.read_text("utf-8").splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def ops_port(self) -> int | None:
        """Once it has started."""
        started = self.said("watching")
        return int(started[-1]["ops_port"]) if started else None


class Scene:
    """Servers, a folder and watchers. `divide` shortens the deadlines of leases."""

    def __init__(self, stand: Stand, folder: Path, *, divide: float, **settings: str) -> None:
        self.stand = stand
        self.folder = folder
        self.root = folder / "cloud"
        self.outside = folder / "outside"
        self.root.mkdir()
        self.outside.mkdir()
        self.divide = divide
        self.settings = settings
        self.watchers: dict[str, Watcher] = {}
        self._logs = 0
        self._connection: asyncpg.Connection | None = None
        self._asking = asyncio.Lock()

    def start(self, name: str, **settings: str) -> Watcher:
        """Start one, or start it again."""
        self._logs += 1
        quick = {variable: str(value / self.divide) for variable, value in TIMES.items()}
        environment = {
            "PATH": os.environ["PATH"],
            "FLEETWIRE_DATABASE_URL": self.stand.postgres.url,
            "FLEETWIRE_REDIS_URL": self.stand.valkey.url,
            "FLEETWIRE_CLOUD_ROOT": str(self.root),
            "FLEETWIRE_WATCHER_NAME": name,
            "FLEETWIRE_OPS_PORT": "0",
            "FLEETWIRE_LOG_FORMAT": "json",
            "FLEETWIRE_LOG_LEVEL": "info",
            **quick,
            **self.settings,
            **settings,
        }
        started = Watcher(name, environment, self.folder / f"{name}-{self._logs}.log")
        self.watchers[name] = started
        return started

    async def query(self, statement: str, *arguments: Any) -> list[Any]:
        """Rows, one question at a time over one connection: who asks often must not be what is measured."""
        async with self._asking:
            if self._connection is None:
                self._connection = await asyncpg.connect(self.stand.postgres.url)
            try:
                return list(await self._connection.fetch(statement, *arguments))
            except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
                self._connection = None
                raise

    async def holders(self) -> dict[str, int]:
        """How many leases each watcher holds."""
        rows = await self.query(
            "SELECT owner, count(*) AS held FROM leases WHERE expires_at > clock_timestamp() GROUP BY owner"
        )
        return {row["owner"]: row["held"] for row in rows}

    async def until(self, what: str, condition: Any, *, deadline_s: float, every_s: float = 0.05) -> float:
        """Seconds until the condition, a coroutine function, holds."""
        began = time.monotonic()
        while not await condition():
            if time.monotonic() - began > deadline_s:
                raise RuntimeError(f"not within {deadline_s:g} s: {what}; logs are in {self.folder}")
            await asyncio.sleep(every_s)
        return time.monotonic() - began

    async def until_shared(self, names: Sequence[str], *, deadline_s: float = 60.0) -> None:
        """Until every feed is held, and by these watchers in equal shares."""

        async def shared() -> bool:
            held = await self.holders()
            (row,) = await self.query("SELECT count(*) AS feeds FROM feeds")
            share = -(-row["feeds"] // len(names))
            return set(held) == set(names) and sum(held.values()) == row["feeds"] and max(held.values()) <= share

        await self.until(f"shared among {names}", shared, deadline_s=deadline_s)

    async def until_scanned(self, *, deadline_s: float = 60.0) -> None:
        """Until every local feed was compared with the folder."""

        async def scanned() -> bool:
            (row,) = await self.query("SELECT count(*) AS left FROM feeds WHERE generation = 0")
            return bool(row["left"] == 0)

        await self.until("everything scanned", scanned, deadline_s=deadline_s)

    def move_in(self, path: str, content: bytes) -> None:
        """A file, complete at once."""
        draft = self.outside / path.replace("/", "_")
        draft.write_bytes(content)
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(target)

    def close(self) -> None:
        """End what runs."""
        for watcher in self.watchers.values():
            watcher.signal(signal.SIGCONT) if watcher._process.poll() is None else None
            watcher.kill()


@contextmanager
def running_scene(*, divide: float = 1.0, **settings: str) -> Iterator[Scene]:
    """Durable as by default."""
    with running_stand() as stand:
        folder = stand.folder / "watching"
        folder.mkdir()
        scene = Scene(stand, folder, divide=divide, **settings)
        try:
            yield scene
        finally:
            scene.close()


class Graph:
    """An emulated Graph in a process of its own, and its orders."""

    def __init__(self, said: dict[str, Any], http: httpx.AsyncClient, pid: int) -> None:
        self.url = str(said["url"])
        self.drive = str(said["drive"])
        self.pid = pid
        self._http = http

    async def order(self, **orders: Any) -> dict[str, Any]:
        """See the emulator's control route; answers with how things stand."""
        answer = await self._http.post(f"{self.url}/control", json=orders)
        answer.raise_for_status()
        said: dict[str, Any] = answer.json()
        return said

    def settings(self) -> dict[str, str]:
        """What a watcher is told of it."""
        return {
            "FLEETWIRE_GRAPH_TENANT": TENANT,
            "FLEETWIRE_GRAPH_CLIENT_ID": CLIENT_ID,
            "FLEETWIRE_GRAPH_CLIENT_SECRET": CLIENT_SECRET,
            "FLEETWIRE_GRAPH_DRIVES": self.drive,
            "FLEETWIRE_GRAPH_URL": self.url,
            "FLEETWIRE_GRAPH_LOGIN_URL": self.url,
        }


@asynccontextmanager
async def running_graph_process(folder: Path) -> AsyncIterator[Graph]:
    """Its bytes are below the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        launch_arguments([sys.executable, "-m", "loadtests.emulators.graph", "--folder", str(folder)]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None, "it is a pipe"
        said = json.loads(await asyncio.to_thread(process.stdout.readline))
        async with httpx.AsyncClient(trust_env=False, timeout=300.0) as http:
            yield Graph(said, http, process.pid)
    finally:
        process.kill()
        process.wait(10)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
