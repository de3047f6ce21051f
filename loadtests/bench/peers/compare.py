"""The comparison: each server in turn, the same devices, the same events, the same acks, by the same driver.

Measured is the server process alone (user and system time, resident memory). Events go to Redis as the server's own
publisher puts them there. A server that falls behind is given time to catch up, and what that costs counts; its
latency says that it fell behind.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import uvloop

from infra.onebox.spawn import launch_arguments
from loadtests.bench.peers.environment import NotInstalled
from loadtests.bench.peers.launch import SERVERS, Environments, Running, build, start
from loadtests.process import cpu_seconds, resident_bytes, start_python
from loadtests.stand import Stand, running_stand

__all__ = ["Figures", "Load", "PointFigures", "beyond", "compare", "loads"]

CONNECTS_AT_ONCE: Final = 200
ACK_EVERY: Final = 16
ACK_MS: Final = 500
TO_ALL_PER_S: Final = 5_000
_HEAD: Final = 10**12
LEAST_PUBLISHES: Final = 3.5  # at a point, where one to all devices comes every few seconds
_CATCH_UP_S: Final = 60.0
_STILL_S: Final = 8.0  # nothing more comes after so long without an event; some only read while Redis has something
_PAYLOAD: Final = 60


@dataclass(frozen=True)
class Load:
    """One point: `mode` unicast is one device at a time, `all` every device at once; `rate` is publishes per second."""

    name: str
    mode: str
    rate: float


def loads(devices: int) -> tuple[Load, ...]:
    """The points. Events to all come as often as makes 5,000 deliveries a second."""
    return (
        Load("one device at a time, 4 k/s", "unicast", 4_000),
        Load("one device at a time, 20 k/s", "unicast", 20_000),
        Load("all devices, 5 k/s in all", "all", TO_ALL_PER_S / devices),
    )


@dataclass(frozen=True)
class PointFigures:
    """What one server did at one point."""

    load: str
    us_per_event: float
    delivered: int
    lost: int
    caught_up_s: float
    latency: dict[str, float]


@dataclass
class Figures:
    """What is known of one server with so many devices. `missing` says why there is nothing."""

    server: str
    devices: int
    resident_kb_per_device: float = 0.0
    connects_per_s: int = 0
    points: dict[str, PointFigures] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    missing: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


class _Driver:
    """The devices, in a process of their own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, line: str) -> dict[str, Any]:
        """One order, one answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        """The next answer."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError("the devices' process has ended")
        answer: dict[str, Any] = json.loads(said)
        return answer

    def until_still(self, expected: int) -> dict[str, Any]:
        """Wait until so many events have come or no more do, then report them."""
        events, last = 0, time.monotonic()
        end = last + _CATCH_UP_S
        while events < expected and (now := time.monotonic()) < min(end, last + _STILL_S):
            counted = self.ask("count\n")["events"]
            if counted > events:
                events, last = counted, now
            time.sleep(0.05)
        return self.ask("report\n")


def compare(
    devices: int, seconds: float, servers: Sequence[str] = SERVERS, *, show: Callable[[str], None]
) -> Iterator[Figures]:
    """Figures of each server, one by one."""
    names = [f"bench-{number}" for number in range(devices)]
    with running_stand(durable=False) as stand:
        uvloop.run(stand.make_devices(names))
        environments = Environments(stand.folder)
        for server in servers:
            show(f"{server}, {devices:,} devices")
            try:
                with start(server, stand, environments, devices) as running:
                    yield _measure(stand, running, names, seconds, show)
            except NotInstalled as missing:
                yield Figures(server, devices, missing=str(missing))


def _measure(stand: Stand, server: Running, names: list[str], seconds: float, show: Callable[[str], None]) -> Figures:
    uvloop.run(stand.pretend_heads(0))
    found = Figures(server.name, len(names))
    time.sleep(0.5)
    idle = resident_bytes(server.pid)
    with _driver(stand, server, names) as driver:
        welcomed = driver.read()
        if not welcomed["all"]:
            raise RuntimeError(f"{server.name}: only {welcomed['welcomed']} of {len(names)} devices were welcomed")
        found.connects_per_s = round(len(names) / max(welcomed["seconds"], 1e-3))
        time.sleep(1.0)
        found.resident_kb_per_device = round((resident_bytes(server.pid) - idle) / 1024 / len(names), 1)
        uvloop.run(stand.pretend_heads(_HEAD))
        sender = _Sender(stand, server, names)
        sender.send(Load("warm", "unicast", 4_000), 1.0)
        driver.until_still(sender.last_sent)
        for load in loads(len(names)):
            if reason := beyond(found, load):
                found.skipped[load.name] = reason
                continue
            show(f"{server.name}, {len(names):,} devices: {load.name}")
            found.points[load.name] = _point(server, load, seconds, driver, sender)
    return found


def beyond(found: Figures, load: Load) -> str | None:
    """Why this load is not tried, judged by those before: a core has only a million microseconds a second."""
    known = list(found.points.values())
    if any(point.lost for point in known):
        return "what was sent before had not all come"  # and would be counted here
    if load.mode == "unicast" and known and (cores := known[-1].us_per_event * load.rate / 1e6 * 0.6) > 1:
        return f"would need more than {cores:.1f} cores"
    return None


def _point(server: Running, load: Load, seconds: float, driver: _Driver, sender: "_Sender") -> PointFigures:
    driver.ask("report\n")
    before = cpu_seconds(server.pid)
    sender.send(load, max(seconds, LEAST_PUBLISHES / load.rate))
    sent_at = time.monotonic()
    seen = driver.until_still(sender.last_sent)
    caught_up = time.monotonic() - sent_at
    time.sleep(ACK_MS / 1000 + 0.2)  # gathered acks have left
    spent = cpu_seconds(server.pid) - before
    events = seen["events"]
    return PointFigures(
        load=load.name,
        us_per_event=round(spent / max(events, 1) * 1e6, 2),
        delivered=events,
        lost=sender.last_sent - events,
        caught_up_s=round(caught_up, 2),
        latency=seen["latency"],
    )


class _Sender:
    """Publishes for one server; each stretch goes on with the numbers of the one before."""

    def __init__(self, stand: Stand, server: Running, names: list[str]) -> None:
        self._stand = stand
        self._speaks = "fleetwire" if server.dialect == "fleetwire" else server.name
        self._names = names
        self._next = 1
        self.last_sent = 0

    def send(self, load: Load, seconds: float) -> None:
        """Returns when all of it is with Redis."""
        # Unicast ends with a whole round, so every device has had the same number of events.
        orders = {
            "redis_url": self._stand.valkey.url,
            "devices": json.dumps(self._names),
            "rate": load.rate,
            "seconds": seconds,
            "mode": load.mode,
            "payload": _PAYLOAD,
            "first_seq": self._next,
            "speaks": self._speaks,
        }
        with (self._stand.folder / "sender.log").open("ab") as log:
            sender = start_python("loadtests.bench.sender", log=log)
        said, _ = sender.communicate(json.dumps(orders) + "\n", timeout=seconds + 120)
        if sender.returncode:
            raise RuntimeError(f"the sender failed:\n{(self._stand.folder / 'sender.log').read_text()[-2000:]}")
        self.last_sent = int(json.loads(said)["sent"])
        self._next += self.last_sent // len(self._names)


@contextmanager
def _driver(stand: Stand, server: Running, names: list[str]) -> Iterator[_Driver]:
    program = build("devices", stand.folder)
    arguments = [str(server.port), str(ACK_EVERY), str(ACK_MS), str(CONNECTS_AT_ONCE), server.dialect]
    with (stand.folder / "devices.log").open("ab") as log:
        process = subprocess.Popen(
            launch_arguments([str(program), *arguments]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("".join(f"{name} {stand.token(name)}\n" for name in names) + "\n")
        process.stdin.flush()
        yield _Driver(process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
