"""A watcher to test: inside the test's own loop, or as a process that can be stopped and killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from shared.lifecycle import Stop
from tests import waiting
from watcher.app import serve
from watcher.settings import Settings
from watcher.tasks import end

# The usual numbers divided by twenty.
QUICK = {
    "heartbeat_s": 0.5,
    "lease_s": 1.5,
    "trust_s": 1.0,
    "membership_s": 0.05,
    "silence_s": 0.75,
    "quiet_s": 0.1,
    "arrivals_s": 0.1,
}


until = waiting.until


class Rig:
    """A cloud folder and the database that a watcher turns it into."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, connection: asyncpg.Connection) -> None:
        self.root = folder / "cloud"
        self.root.mkdir()
        self.outside = folder / "outside"
        self.outside.mkdir()
        self.database_url = database_url
        self.redis_url = redis_url
        self.db = connection

    def settings(self, **changes: Any) -> Settings:
        given: dict[str, Any] = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "cloud_root": self.root,
            "name": "watcher-1",
            "ops_port": 0,
            "redis_deadline_s": 0.2,
        }
        return Settings(**(given | QUICK | changes))

    def environment(self, **changes: str) -> dict[str, str]:
        given = {
            "FLEETWIRE_DATABASE_URL": self.database_url,
            "FLEETWIRE_REDIS_URL": self.redis_url,
            "FLEETWIRE_CLOUD_ROOT": str(self.root),
            "FLEETWIRE_WATCHER_NAME": "watcher-1",
            "FLEETWIRE_OPS_PORT": "0",
            "FLEETWIRE_LOG_FORMAT": "json",
            "FLEETWIRE_REDIS_DEADLINE_S": "0.2",
            "PATH": os.environ["PATH"],
        }
        quick = {f"FLEETWIRE_WATCHER_{name.upper()}": str(value) for name, value in QUICK.items()}
        return given | quick | {"FLEETWIRE_WATCHER_RESCAN_S": "0.5"} | changes

    async def add_device(self, *device_ids: str) -> None:
        for device_id in device_ids:
            await self.db.execute(
                "WITH d AS (INSERT INTO devices (device_id, class, epoch) VALUES ($1, 'truck', 1) RETURNING device_id) "
                "INSERT INTO cursors (device_id, epoch) SELECT device_id, 1 FROM d",
                device_id,
            )

    def put(self, path: str, content: bytes = b"content") -> Path:
        """Write in place, as a plain program does."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    def move_in(self, path: str, content: bytes = b"content") -> Path:
        """Complete elsewhere, then moved in."""
        draft = self.outside / path.replace("/", "_")
        draft.write_bytes(content)
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return draft.rename(target)

    async def jobs(self) -> list[str]:
        """Paths of all jobs, in order."""
        return [row["path"] for row in await self.db.fetch("SELECT path FROM jobs ORDER BY path, created_at")]

    async def events(self) -> list[dict[str, Any]]:
        rows = await self.db.fetch("SELECT device_id, seq, body FROM events ORDER BY device_id, seq")
        return [{"device_id": row["device_id"], "seq": row["seq"], **json.loads(row["body"])} for row in rows]

    async def announced(self) -> list[str]:
        """Names of the files of all events."""
        return [file["name"] for event in await self.events() for file in event["data"]["files"]]

    async def items(self) -> dict[str, str]:
        """State by path."""
        return {row["path"]: row["state"] for row in await self.db.fetch("SELECT path, state FROM items ORDER BY path")}

    async def holders(self) -> dict[str, int]:
        rows = await self.db.fetch(
            "SELECT owner, count(*) FROM leases WHERE expires_at > clock_timestamp() GROUP BY owner"
        )
        return {row["owner"]: row["count"] for row in rows}

    async def scanned(self, times: int = 1) -> None:
        """Until every feed was scanned so often more than now."""
        rows = await self.db.fetch("SELECT feed_id, generation FROM feeds")
        before = {row["feed_id"]: row["generation"] for row in rows}

        async def all_scanned() -> bool:
            now = await self.db.fetch("SELECT feed_id, generation FROM feeds")
            return len(now) == 64 and all(row["generation"] >= before.get(row["feed_id"], 0) + times for row in now)

        await until(all_scanned, "every feed scanned", deadline_s=20)


class InLoop:
    """A watcher in the test's loop."""

    def __init__(self, settings: Settings) -> None:
        self._stop = Stop()
        self._task = asyncio.create_task(serve(settings, self._stop))

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def stop(self) -> int:
        self._stop.request("test")
        async with asyncio.timeout(20):
            return await self._task

    async def result(self) -> int:
        async with asyncio.timeout(20):
            return await asyncio.shield(self._task)

    async def kill(self) -> None:
        """End without giving anything back."""
        await end([self._task])


class Process:
    """A watcher process."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "watcher"], env=environment, stdin=subprocess.DEVNULL, stderr=stderr
            )

    def signal(self, signum: signal.Signals) -> None:
        self._process.send_signal(signum)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def log(self) -> str:
        return self._log.read_text("utf-8")

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in found if line.get("event") == event]

    async def ready(self) -> dict[str, Any]:
        """What the operations port says once the watcher is ready."""

        async def asked() -> dict[str, Any] | None:
            if self._process.poll() is not None:
                raise AssertionError(self.log()[-4000:])
            started = self.lines("watching")
            if not started:
                return None
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://127.0.0.1:{started[-1]['ops_port']}/ready")
            body: dict[str, Any] = answer.json()
            return body if answer.status_code == 200 and body["detail"]["feeds"] else None

        answer: dict[str, Any] = await until(asked, "watcher ready", deadline_s=20)
        return answer

    async def exit_status(self, deadline_s: float = 20.0) -> int:
        async def ended() -> bool:
            return self._process.poll() is not None

        await until(ended, "process ended", deadline_s=deadline_s)
        return int(self._process.returncode)
