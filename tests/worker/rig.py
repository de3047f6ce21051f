"""What the worker's tests share: requests as the watcher puts them, what came of them, and real worker processes."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from shared.store import devices, jobs, log
from shared.store.jobs import Job, NewJob
from shared.store.pool import Pool

ROOT = Path(__file__).parents[2]
DEVICE = "truck-7"


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]], deadline_s: float = 20) -> Any:
    """What `condition` gives once it is true."""
    async with asyncio.timeout(deadline_s):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].startswith(" Z")
    except OSError:
        return False


class Cloud:
    """The cloud folder and the database, as everybody else sees them."""

    def __init__(self, pool: Pool, root: Path) -> None:
        self.pool = pool
        self.root = root

    async def request(self, name: str, content: bytes | str, *, device_id: str = DEVICE, kind: str = "unknown") -> UUID:
        """Put a file and its job."""
        data = content.encode() if isinstance(content, str) else content
        path = f"Requests/{device_id}/{name}"
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        await devices.ensure(self.pool, device_id, "truck")
        job = NewJob(uuid4(), "requests", kind, device_id, "local", path, name, len(data), sha256(data).hexdigest())
        async with self.pool.transaction() as connection:
            await jobs.insert_jobs(connection, [job])
        return job.job_id

    async def job(self, job_id: UUID) -> Job:
        found = await jobs.get(self.pool, job_id)
        assert found is not None
        return found

    async def ended(self, job_id: UUID, deadline_s: float = 30) -> Job:
        """The job once it is done, dead or cancelled."""

        async def look() -> Job | None:
            found = await self.job(job_id)
            return found if found.current_status in ("done", "dead", "cancelled") else None

        found: Job = await until(look, deadline_s)
        return found

    def folder(self, job_id: UUID, device_id: str = DEVICE) -> Path:
        """The folder of the response."""
        (found,) = (self.root / "Responses" / device_id).glob(f"*.{job_id}")
        return found

    def document(self, job_id: UUID) -> dict[str, Any]:
        """response.json, after a look at every file it names."""
        folder = self.folder(job_id)
        document: dict[str, Any] = json.loads((folder / "response.json").read_bytes())
        assert document["job_id"] == str(job_id)
        for file in document["files"]:
            data = (folder / file["name"]).read_bytes()
            assert (len(data), sha256(data).hexdigest()) == (file["size"], file["sha256"])
        return document

    async def events(self, device_id: str = DEVICE) -> list[dict[str, Any]]:
        """The device's log."""
        pages = await log.read_pages(self.pool, [log.PageRequest(device_id, 0, 1000, 10_000_000)])
        events = pages[device_id].events
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return [json.loads(event.body) for event in events]

    async def event_of(self, job_id: UUID) -> dict[str, Any]:
        """The one event of a job."""
        (event,) = [event for event in await self.events() if event["data"].get("job_id") == str(job_id)]
        return event

    def verify(self, event: dict[str, Any], job_id: UUID) -> None:
        """Every file the event names is there as named, response.json among them."""
        folder = self.folder(job_id)
        assert event["type"] == "ResponseReady"
        assert "response.json" in {file["name"] for file in event["data"]["files"]}
        for file in event["data"]["files"]:
            data = (folder / file["name"]).read_bytes()
            assert (len(data), sha256(data).hexdigest()) == (file["size"], file["sha256"])
            assert file["url"] == f"/api/v1/files/{file['file_id']}"


class WorkerProcess:
    """A real worker, started as `python -m worker`."""

    def __init__(self, environ: dict[str, str], log_file: Path) -> None:
        self.log_file = log_file
        with log_file.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker"], env=environ, cwd=ROOT, stdout=output, stderr=output
            )
        self.pid = self.process.pid

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    async def ready(self, deadline_s: float = 20) -> None:
        """Wait until it claims jobs."""
        await until(lambda: "worker ready" in self.log() or self.process.poll() is not None, deadline_s)
        assert self.process.poll() is None, self.log()

    def children(self) -> list[int]:
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in listed]

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        self.process.terminate()

    async def wait(self, deadline_s: float = 25) -> int:
        """The exit status."""
        await until(lambda: self.process.poll() is not None, deadline_s)
        assert self.process.returncode is not None
        return self.process.returncode

    def kill(self) -> None:
        """kill -9, also when it is paused or gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.log()))
