"""CPU per delivered event: the hub beside the bare relay, same devices, messages and acks, one after the other.

What is measured is the server process alone (user and system time from /proc) while numbered messages are published
straight to the bus; the head of every device's log is set ahead, so that acks are recorded as always. Nothing of the
hub is switched off except the sweep, which would find those events missing from the log.
"""

import asyncio
import json
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from infra.migrations.runner import migrate
from infra.onebox.home import Home
from infra.onebox.postgres import EmbeddedPostgres
from infra.onebox.valkey import EmbeddedValkey
from loadtests.ports import free_port
from loadtests.process import cpu_seconds, resident_bytes, start_python
from shared.tokens import KeyRing

__all__ = ["POINTS", "Point", "Result", "child", "measure"]


@dataclass(frozen=True)
class Point:
    """One load: `mode` unicast is one device at a time, `all` every device at once; `rate` is publishes per second."""

    name: str
    mode: str
    rate: int
    ack_every: int = 16


POINTS: Final = (
    Point("one device at a time, 4 k/s", "unicast", 4_000),
    Point("one device at a time, 4 k/s, each event acked", "unicast", 4_000, ack_every=1),
    Point("one device at a time, 20 k/s", "unicast", 20_000),
    Point("all devices, 100/s", "all", 100),
)


@dataclass(frozen=True)
class Result:
    """What one server did at one point."""

    server: str
    point: str
    us_per_event: float
    delivered: int
    lost: int
    latency: dict[str, float]
    resident_kb_per_device: float

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return self.__dict__


@contextmanager
def child(arguments: list[str], log: Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, cwd="/", env=environment or None)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Bench:
    """The servers of one run and what devices need to connect."""

    def __init__(self, folder: Path, devices: int, stack: ExitStack) -> None:
        self.folder = folder
        self.devices = [f"bench-{number}" for number in range(devices)]
        home = Home(folder / "home")
        home.prepare()
        self.postgres = EmbeddedPostgres(home, port=free_port(), durable=False)
        self.valkey = EmbeddedValkey(home, port=free_port())
        for server in (self.postgres, self.valkey):
            server.prepare()
            stack.enter_context(child(server.launch_arguments(), folder / f"{server.name}.log", **server.environment()))
        asyncio.run(self._ready())
        key = urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        self.keys = json.dumps({"keys": [{"kty": "oct", "kid": "bench", "alg": "HS256", "k": key}]})
        ring = KeyRing.from_jwks(self.keys)
        now = time.time()
        self.tokens = {
            device: ring.mint(subject=device, scopes=frozenset({"device"}), now=now, lifetime_s=7200)
            for device in self.devices
        }

    async def _ready(self) -> None:
        await self.postgres.wait_ready(60)
        await self.valkey.wait_ready(30)
        await migrate(self.postgres.url)

    def set_heads(self, head: int) -> None:
        """Forget what was acked, and say how long every log is."""

        async def work() -> None:
            connection = await asyncpg.connect(self.postgres.url)
            try:
                await connection.execute("UPDATE cursors SET acked_seq = 0")
                await connection.execute("UPDATE devices SET head_seq = $1", head)
            finally:
                await connection.close()

        asyncio.run(work())

    def make_devices(self) -> None:
        """Rows as the first token would make them."""

        async def work() -> None:
            connection = await asyncpg.connect(self.postgres.url)
            try:
                await connection.execute(
                    "WITH made AS (INSERT INTO devices (device_id, class, epoch) SELECT unnest($1::text[]), 'truck', 1 "
                    "ON CONFLICT DO NOTHING RETURNING device_id) "
                    "INSERT INTO cursors (device_id, epoch) SELECT device_id, 1 FROM made",
                    self.devices,
                )
            finally:
                await connection.close()

        asyncio.run(work())


@contextmanager
def _relay(bench: _Bench, port: int) -> Iterator[int]:
    source = Path(__file__).with_name("relay.c")
    binary = bench.folder / "relay"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("no C compiler: install gcc to build the bare relay")
    if not binary.exists():
        subprocess.run([compiler, "-O2", "-o", str(binary), str(source)], check=True)
    password = bench.valkey.home.password("valkey-password")
    with child([str(binary), str(port), str(bench.valkey.port), password], bench.folder / "relay.log") as process:
        _wait_listening(port)
        yield process.pid


@contextmanager
def _hub(bench: _Bench, port: int) -> Iterator[int]:
    environment = {
        "FLEETWIRE_DATABASE_URL": bench.postgres.url,
        "FLEETWIRE_REDIS_URL": bench.valkey.url,
        "FLEETWIRE_TOKEN_KEYS": bench.keys,
        "FLEETWIRE_TICKET_KEYS": bench.keys,
        "FLEETWIRE_HUB_NAME": "bench",
        "FLEETWIRE_HUB_PORT": str(port),
        "FLEETWIRE_OPS_PORT": str(free_port()),
        "FLEETWIRE_HUB_CAPACITY": str(len(bench.devices) + 10),
        "FLEETWIRE_HUB_SWEEP_S": "3600",
        "FLEETWIRE_LOG_LEVEL": "warning",
    }
    with (bench.folder / "hub.log").open("ab") as log:
        process = start_python("hub", environ=environment, log=log)
    try:
        _wait_listening(port)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _wait_listening(port: int, deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError(f"nothing listens on {port} after {deadline_s:g} s") from None
            time.sleep(0.05)


def _point(bench: _Bench, server: str, point: Point, seconds: float) -> Result:
    start = {"relay": _relay, "hub": _hub}[server]
    port = free_port()
    bench.set_heads(0)
    with start(bench, port) as pid, (bench.folder / "load.log").open("ab") as log:
        idle = resident_bytes(pid)
        receiver = start_python("loadtests.bench.receiver", log=log)
        assert receiver.stdin is not None
        assert receiver.stdout is not None
        try:
            orders: dict[str, Any] = {"url": f"ws://127.0.0.1:{port}/v1/socket", "tokens": json.dumps(bench.tokens)}
            _tell(receiver, json.dumps(orders | {"ack_every": point.ack_every}))
            welcomed = json.loads(receiver.stdout.readline())
            if not welcomed["all"]:
                raise RuntimeError(
                    f"{server}: only {welcomed['welcomed']} of {len(bench.devices)} devices were welcomed"
                )
            resident = resident_bytes(pid) - idle
            bench.set_heads(10**12)
            _send(bench, point, 1.0, first_seq=1, log=log)  # warm
            warm = _report(receiver)
            first = 1 + warm["events"] // len(bench.devices)
            before = cpu_seconds(pid)
            sent = _send(bench, point, seconds, first_seq=first, log=log)
            spent = cpu_seconds(pid) - before
            counted = _report(receiver)
            _tell(receiver, "stop")
            receiver.wait(20)
        finally:
            receiver.kill()
            receiver.wait()
            receiver.stdin.close()
            receiver.stdout.close()
    return Result(
        server=server,
        point=point.name,
        us_per_event=round(spent / max(counted["events"], 1) * 1e6, 2),
        delivered=counted["events"],
        lost=sent["sent"] - counted["events"],
        latency=counted["latency"],
        resident_kb_per_device=round(resident / len(bench.devices) / 1024, 1),
    )


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _report(receiver: "subprocess.Popen[str]") -> dict[str, Any]:
    time.sleep(0.7)  # what is on its way arrives, gathered acks leave
    _tell(receiver, "report")
    assert receiver.stdout is not None
    report: dict[str, Any] = json.loads(receiver.stdout.readline())
    return report


def _send(bench: _Bench, point: Point, seconds: float, *, first_seq: int, log: Any) -> dict[str, Any]:
    sender = start_python("loadtests.bench.sender", log=log)
    orders = {
        "redis_url": bench.valkey.url,
        "devices": json.dumps(bench.devices),
        "rate": point.rate,
        "seconds": seconds,
        "mode": point.mode,
        "payload": 60,
        "first_seq": first_seq,
    }
    said, _ = sender.communicate(json.dumps(orders) + "\n", timeout=seconds + 60)
    if sender.returncode:
        raise RuntimeError(f"the sender failed: see {bench.folder}/load.log")
    answer: dict[str, Any] = json.loads(said)
    return answer


def measure(devices: int, seconds: float, points: tuple[Point, ...] = POINTS) -> Iterator[Result]:
    """Results one by one, relay and hub in turn at each point."""
    folder = Path(tempfile.mkdtemp(prefix="fleetwire-bench-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        bench = _Bench(folder, devices, stack)
        bench.make_devices()
        for point in points:
            for server in ("relay", "hub"):
                yield _point(bench, server, point, seconds)
