"""SIGTERM ends every process that holds no device within 20 seconds and with 0, also while Postgres hangs."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from loadtests.ports import free_port
from tests.api.conftest import api_environment, token
from tests.e2e.conftest import until
from tests.servers import ServerProcess

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

PROCESSES = ("api", "watcher", "worker", "files")
WITHIN_S = 20.0


class Leaver:
    """One process with its default patience."""

    def __init__(self, package: str, environment: dict[str, str], log: Path) -> None:
        self.package = package
        self.ops = f"http://127.0.0.1:{environment['FLEETWIRE_OPS_PORT']}"
        self.log = log
        self._environment = environment
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.package, env=self._environment, stdout=log, stderr=log
            )

    async def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.log.read_text()
        try:
            async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5) as client:
                return (await client.get(f"{self.ops}/ready")).status_code == 200
        except httpx.TransportError:
            return False

    async def leave(self) -> tuple[str, int, float]:
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(3 * WITHIN_S):
            status = await self.process.wait()
        return self.package, status, time.monotonic() - began

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()


async def test_all_leave_in_time_while_postgres_hangs_and_requests_wait_for_it(
    postgres_server: Callable[[], ServerProcess], redis_url: str, tmp_path: Path
) -> None:
    postgres = postgres_server()
    (tmp_path / "cloud").mkdir()
    patient = ("FLEETWIRE_API_DRAIN_S", "FLEETWIRE_API_FINISH_S", "FLEETWIRE_API_PROBE_S")
    common = {name: value for name, value in api_environment(postgres.url, redis_url).items() if name not in patient}
    common |= {
        "PATH": os.environ["PATH"],
        "FLEETWIRE_CLOUD_ROOT": str(tmp_path / "cloud"),
        "FLEETWIRE_CLOUD_TMP": str(tmp_path / "cloud-tmp"),
        "FLEETWIRE_FILES_PORT": "0",
        "FLEETWIRE_WORKER_PROCESSES": "1",
        "FLEETWIRE_PARENT_PID": str(os.getpid()),
    }
    leavers = [
        Leaver(package, common | {"FLEETWIRE_OPS_PORT": str(free_port())}, tmp_path / f"{package}.log")
        for package in PROCESSES
    ]
    async with AsyncExitStack() as stack:
        for one in leavers:
            stack.callback(one.kill)
            await one.start()
        for one in leavers:
            await until(one.is_ready, f"{one.package} is ready", 40)

        postgres.pause()
        stack.callback(postgres.resume)
        api = f"http://127.0.0.1:{common['FLEETWIRE_API_PORT']}"
        bearer = {"Authorization": f"Bearer {token('truck-7')}"}
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=api, trust_env=False, verify=False, timeout=30, headers=bearer)
        )
        waiting = [asyncio.create_task(client.get("/api/v1/devices/truck-7/events")) for _ in range(3)]
        stack.callback(lambda: [task.cancel() for task in waiting])
        await asyncio.sleep(0)
        left = await asyncio.gather(*(one.leave() for one in leavers))
        answers = await asyncio.gather(*waiting)
    assert {package: status for package, status, _ in left} == dict.fromkeys(PROCESSES, 0)
    assert all(seconds < WITHIN_S for _, _, seconds in left), left
    assert [answer.status_code for answer in answers] == [503, 503, 503]
