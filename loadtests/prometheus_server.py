"""A real Prometheus for one run, beside what it watches, and somebody whom it tells its alerts.

All durations of the rules are divided, so that what takes an hour in production takes a minute here; it looks at the
processes every second. Whoever is told stands where an Alertmanager does, and keeps what was said.
"""

import asyncio
import json
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.onebox.spawn import launch_arguments
from infra.prometheus import rules
from loadtests.emulators.serving import serving
from loadtests.ports import free_port

__all__ = ["Prometheus", "Told", "running_prometheus"]

EVERY_S: Final = 1.0
_READY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that fired: since when (Unix seconds), and what was said of it."""

    name: str
    since: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass
class Prometheus:
    """`watch()` says which operations ports there are; `told` is what fired, in order."""

    url: str
    folder: Path
    scale: float
    told: list[Told] = field(default_factory=list)
    client: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=10, trust_env=False))

    def configure(self, receiver: str) -> None:
        """Write what it is started with."""
        for name, text in rules.documents(scale=self.scale).items():
            (self.folder / name).write_text(text)
        jobs = ("api", "files", "hub", "watcher", "worker")
        config: dict[str, Any] = {
            "global": {
                "scrape_interval": f"{EVERY_S:g}s",
                "scrape_timeout": "900ms",
                "evaluation_interval": f"{EVERY_S:g}s",
            },
            "rule_files": [str(self.folder / "*.yml")],
            "alerting": {
                "alertmanagers": [
                    {"api_version": "v2", "static_configs": [{"targets": [receiver.removeprefix("http://")]}]}
                ]
            },
            "scrape_configs": [
                {
                    "job_name": f"fleetwire-{job}",
                    "file_sd_configs": [{"files": [str(self.folder / f"{job}.json")], "refresh_interval": "1s"}],
                }
                for job in jobs
            ],
        }
        for job in jobs:
            self.watch(job, [])
        # JSON is YAML as well.
        (self.folder / "prometheus.json").write_text(json.dumps(config, indent=1))

    def watch(self, job: str, ports: Sequence[int]) -> None:
        """These are the operations ports of a kind of process, from the next second on."""
        targets = [{"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"machine": "here"}}]
        draft = self.folder / f"{job}.json.tmp"
        draft.write_text(json.dumps(targets))
        draft.rename(self.folder / f"{job}.json")

    async def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The value of an expression now, by labels."""
        answer = await self.client.get(f"{self.url}/api/v1/query", params={"query": query})
        answer.raise_for_status()
        return [(one["metric"], float(one["value"][1])) for one in answer.json()["data"]["result"]]

    async def hear(self, request: Request) -> Response:
        """What an Alertmanager is told."""
        for alert in await request.json():
            labels = dict(alert["labels"])
            name = labels.pop("alertname")
            since = datetime.fromisoformat(_whole_micros(alert["startsAt"])).timestamp()
            said = Told(name, since, labels, alert["annotations"])
            if not any((one.name, one.since, one.labels) == (said.name, said.since, said.labels) for one in self.told):
                self.told.append(said)
        return Response(status_code=200)

    def heard(self, name: str, after: float) -> Told | None:
        """The first time since `after` (Unix seconds) that an alert began to fire."""
        return min((one for one in self.told if one.name == name and one.since >= after), key=_since, default=None)


def _since(one: Told) -> float:
    return one.since


def _whole_micros(moment: str) -> str:
    """Go writes as many digits as it has."""
    whole, _, rest = moment.partition(".")
    digits = rest.rstrip("Z")
    return f"{whole}.{(digits + '000000')[:6]}+00:00" if rest else moment.replace("Z", "+00:00")


@asynccontextmanager
async def running_prometheus(folder: Path, *, scale: float) -> AsyncIterator[Prometheus]:
    """For the length of a block. Raises RuntimeError where there is no Prometheus."""
    program = shutil.which("prometheus")
    if program is None:
        raise RuntimeError("prometheus is not installed (apt-get install prometheus)")
    folder.mkdir()
    port = free_port()
    one = Prometheus(f"http://127.0.0.1:{port}", folder, scale)
    hearing = Starlette(routes=[Route("/api/v2/alerts", one.hear, methods=["POST"])])
    async with serving(hearing) as receiver:
        one.configure(receiver)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                launch_arguments(
                    [
                        program,
                        f"--config.file={folder / 'prometheus.json'}",
                        f"--storage.tsdb.path={folder / 'data'}",
                        f"--web.listen-address=127.0.0.1:{port}",
                        "--storage.tsdb.retention.time=3h",
                        "--rules.alert.resend-delay=5s",
                        "--log.level=warn",
                    ]
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        try:
            await _until_ready(one, process)
            yield one
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            await one.client.aclose()


async def _until_ready(one: Prometheus, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if (await one.client.get(f"{one.url}/-/ready")).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.05)
    raise RuntimeError(f"Prometheus did not get ready: {(one.folder / 'log').read_text('utf-8', 'replace')[-2000:]}")
