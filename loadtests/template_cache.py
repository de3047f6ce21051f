"""What a read of a template costs where it is answered: by 304, from the process, with the body from Redis or Postgres.

Two API processes on a Postgres and a Valkey of their own; one keeps templates, the other keeps none and so asks Redis
(and Postgres whether that is the newest) each time, a third has no Redis. Clients send as fast as they are answered, as
a device (whose token is looked up in Postgres for each request, gathered) and as a service (whose token is not). CPU is
that of the API process, of Postgres and of Valkey, from the kernel. Then templates are changed at one process, and the
other is asked until it has the change: with the bus, and with Redis stopped. None may take a second.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop
from rich.console import Console

from infra.onebox.spawn import launch_arguments
from loadtests.driver.latency import Latencies
from loadtests.ports import free_port
from loadtests.process import cpu_nanoseconds, tree_cpu_seconds
from loadtests.stand import Stand, running_stand, wait_listening

__all__ = ["Phase", "main"]

RESULTS: Final = Path(__file__).parent / "results"
STALE_MAX_S: Final = 1.0
ANSWER_DEADLINE_S: Final = 10.0
_PATH: Final = "/api/v1/templates"
_KEPT: Final[dict[str, str]] = {}
_NONE_KEPT: Final = {"FLEETWIRE_TEMPLATE_CACHE_MAX_BYTES": "0"}
_NO_REDIS: Final = _NONE_KEPT | {"FLEETWIRE_REDIS_URL": "redis://127.0.0.1:1/0"}


class Client:
    """One connection that is kept, without a library: the cores are needed by what is measured."""

    def __init__(self, port: int, bearer: str) -> None:
        self._port = port
        self._common = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {bearer}\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
            if body:
                more += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{method} {path} HTTP/1.1\r\n{self._common}{more}\r\n".encode() + body)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            status = int(head.split(b" ", 2)[1])
            length = 0 if status == 304 else int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            return status, await reader.readexactly(length)

    def close(self) -> None:
        """Cut it."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


@dataclass
class Phase:
    """What one way to answer came to."""

    name: str
    who: str
    requests: int = 0
    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    latencies: Latencies = field(default_factory=Latencies)
    wrong: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """For the file. A core is one that only the API is busy on."""
        count = max(1, self.requests)
        api = self.cpu_s.get("api", 0.0)
        return {
            "answered": self.name,
            "who": self.who,
            "requests": self.requests,
            "requests_per_s": round(self.requests / self.seconds) if self.seconds else 0,
            "requests_per_s_and_core": round(self.requests / api) if api else 0,
            "cpu_us_per_request": {name: round(spent * 1e6 / count, 1) for name, spent in self.cpu_s.items()},
            "wrong": self.wrong[:5],
            **self.latencies.summary(),
        }


@dataclass(frozen=True)
class Api:
    """A process of the API."""

    port: int
    pid: int


@contextmanager
def running_api(stand: Stand, number: int, settings: dict[str, str]) -> Iterator[Api]:
    """One for the length of a block."""
    port = free_port()
    environment = stand.api_environment(
        FLEETWIRE_API_PORT=str(port), FLEETWIRE_OPS_PORT=str(free_port()), FLEETWIRE_API_DRAIN_S="0", **settings
    )
    with (stand.folder / f"api-{number}.log").open("ab") as log:
        process = subprocess.Popen(
            launch_arguments([sys.executable, "-m", "api"]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | environment,
        )
    try:
        wait_listening(port)
        yield Api(port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def make_templates(api: Api, bearer: str, count: int, kib: int) -> list[str]:
    """Their paths."""
    client = Client(api.port, bearer)
    paths = []
    for number in range(count):
        body = orjson.dumps({"name": f"Daily {number}", "body": {"text": "x" * (kib * 1024 - 100)}})
        status, content = await client.ask("POST", _PATH, body)
        if status != 201:
            raise RuntimeError(f"a template was not made: {status} {content[:300]!r}")
        paths.append(f"{_PATH}/{orjson.loads(content)['template_id']}")
    client.close()
    return paths


async def measure(
    stand: Stand, api: Api, phase: Phase, paths: Sequence[str], bearer: str, *, clients: int, seconds: float
) -> Phase:
    """Ask for some seconds, after a moment that is not counted."""
    loop = asyncio.get_running_loop()
    begin = loop.time() + min(1.0, seconds / 4)
    end = begin + seconds
    wanted = 304 if phase.name == "304" else 200
    headers: dict[str, Any] = {"If_None_Match": '"1"'} if wanted == 304 else {}

    async def client(number: int) -> None:
        asking = Client(api.port, bearer)
        while (sent := loop.time()) < end:
            number += 1
            status, content = await asking.ask("GET", paths[number % len(paths)], **headers)
            if status != wanted:
                phase.wrong.append(f"{status} {content[:200]!r}")
            if sent >= begin:
                phase.requests += 1
                phase.latencies.add((loop.time() - sent) * 1000)
        asking.close()

    def spent() -> dict[str, float]:
        return {
            "api": cpu_nanoseconds(api.pid) / 1e9,
            "postgres": tree_cpu_seconds(stand.pids["postgres"]),
            "valkey": cpu_nanoseconds(stand.pids["valkey"]) / 1e9,
        }

    tasks = [asyncio.create_task(client(number)) for number in range(clients)]
    await asyncio.sleep(begin - loop.time())
    started, before = time.monotonic(), spent()
    await asyncio.sleep(end - loop.time())
    phase.seconds = time.monotonic() - started
    phase.cpu_s = {name: value - before[name] for name, value in spent().items()}
    await asyncio.gather(*tasks)
    return phase


async def seconds_until_seen(writer: Client, reader: Client, path: str) -> float:
    """From the answer to a change at one process to the moment when the other was first asked and had it."""
    _, content = await reader.ask("GET", path)
    version = orjson.loads(content)["version"]
    body = orjson.dumps({"name": "changed", "body": {"n": version}})
    status, content = await writer.ask("PUT", path, body, If_Match=f'"{version}"')
    changed = time.monotonic()
    if status != 200:
        raise RuntimeError(f"a template was not changed: {status} {content[:300]!r}")
    while True:
        asked = time.monotonic()
        status, _ = await reader.ask("GET", path, If_None_Match=f'"{version}"')
        if status == 200:
            return max(0.0, asked - changed)


async def staleness(stand: Stand, apis: tuple[Api, Api], path: str, *, changes: int, stopped: bool) -> dict[str, Any]:
    """How old the other's answers were, change after change."""
    valkey = stand.pids["valkey"]
    writer, reader = Client(apis[0].port, stand.bearer("olga", "operator")), Client(apis[1].port, stand.token("d1"))
    if stopped:
        os.kill(valkey, signal.SIGSTOP)
    try:
        found = sorted([await seconds_until_seen(writer, reader, path) for _ in range(changes)])
    finally:
        os.kill(valkey, signal.SIGCONT)
    writer.close()
    reader.close()
    return {"changes": changes, "p50_ms": round(found[changes // 2] * 1000, 1), "max_ms": round(found[-1] * 1000, 1)}


async def run(stand: Stand, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All of it."""
    await stand.make_devices(["d1"])
    bearers = {"device": stand.token("d1"), "service": stand.bearer("billing", "service")}
    with ExitStack() as stack:
        kept, second, none_kept, no_redis = (
            stack.enter_context(running_api(stand, number, settings))
            for number, settings in enumerate((_KEPT, _KEPT, _NONE_KEPT, _NO_REDIS))
        )
        paths = await make_templates(kept, stand.bearer("olga", "operator"), options.templates, options.kib)
        phases = []
        for name, api in (("304", kept), ("process", kept), ("redis", none_kept), ("postgres", no_redis)):
            for who, bearer in bearers.items():
                phase = await measure(
                    stand, api, Phase(name, who), paths, bearer, clients=options.clients, seconds=options.seconds
                )
                phases.append(phase)
                console.print(_line(phase))
        stale = {
            name: await staleness(stand, (kept, second), paths[0], changes=options.changes, stopped=stopped)
            for name, stopped in (("with_signals", False), ("redis_stopped", True))
        }
        console.print(f"a change is seen at the other process: {stale}")
    return {
        "templates": options.templates,
        "kib": options.kib,
        "clients": options.clients,
        "phases": [phase.summary() for phase in phases],
        "stale": stale,
    }


def _line(phase: Phase) -> str:
    found = phase.summary()
    cpu = ", ".join(f"{name} {spent:g}" for name, spent in found["cpu_us_per_request"].items())
    return (
        f"{phase.name:>8} for a {phase.who:<7}: {found['requests_per_s_and_core']:>6,} requests/s and core of the API, "
        f"µs each: {cpu}; p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms"
    )


def main() -> int:
    """Run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", type=int, default=100)
    parser.add_argument("--kib", type=int, default=8, help="size of each")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each of eight phases")
    parser.add_argument("--changes", type=int, default=20, help="of each of two runs of changes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    options = parser.parse_args()
    console = Console(width=150)
    with running_stand() as stand:
        found = uvloop.run(run(stand, options, console))
    options.results.mkdir(exist_ok=True)
    file = options.results / f"template-cache-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    wrong = [text for phase in found["phases"] for text in phase["wrong"]]
    for text in wrong[:5]:
        console.print(f"wrong: {text}", style="red")
    late = [name for name, one in found["stale"].items() if one["max_ms"] > STALE_MAX_S * 1000]
    for name in late:
        console.print(f"a change was seen too late: {name}", style="red")
    return 1 if wrong or late else 0


if __name__ == "__main__":
    raise SystemExit(main())
