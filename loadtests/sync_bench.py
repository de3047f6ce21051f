"""Sync batches of 100 operations beside the same work as single requests, by 1, 8 and 32 clients at once.

Every client is a device of its own and sends as fast as it is answered: forty inspections made, forty changed that
were made before, twenty handed in. The single requests are those of the inspections themselves, each with an
Idempotency-Key, which makes them as safe to repeat; beside them batches of one operation. CPU is that of the API
process and of Postgres, from the kernel; the clients run beside them on the same cores. Fifty calls at once with one
key come first: one effect.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import uvloop
from rich.console import Console
from rich.progress import Progress

from loadtests.chaos.faults import query
from loadtests.driver.latency import Latencies
from loadtests.machine import Machine, running_machine
from loadtests.process import cpu_nanoseconds, tree_cpu_seconds
from shared.protocol.ids import time_ordered_uuid

__all__ = ["Work", "main"]

RESULTS: Final = Path(__file__).parent / "results"
TEMPLATE: Final = "00000000-0000-4000-8000-00000000bec4"
BATCH: Final = 100
WAYS: Final = {BATCH: "batches of 100", 1: "batches of 1", 0: "single requests"}
SAME_KEY: Final = 50
SAME_KEY_MAX_S: Final = 2.0
_ADD_TEMPLATE: Final = "INSERT INTO templates (template_id, name, version, body) VALUES ($1, 'Daily check', 1, '{}')"
# Enough for the run, whoever else limits or counts.
SETTINGS: Final = {"FLEETWIRE_SYNC_KEYS_PER_DAY": "100000000"}


class Work:
    """The operations of one device, in an order that a device could have made them in."""

    def __init__(self, seed: int) -> None:
        self._rand = Random(seed)
        self._made: list[str] = []
        self._changed: list[str] = []

    def batch(self) -> list[dict[str, Any]]:
        """The next hundred: changes of what was made in the batch before, and new ones."""
        submits = [self._operation("submit", entity, 2) for entity in self._changed[:20]]
        updates = [
            self._operation("update", entity, 1, {"answers": {"tyres": "worn", "lamps": None}}) for entity in self._made
        ]
        self._changed = list(self._made)
        self._made = [self._id() for _ in range(40)]
        extra = [self._id() for _ in range(BATCH - 40 - len(updates) - len(submits))]
        return [*(self._create(entity) for entity in [*self._made, *extra]), *updates, *submits]

    def one_by_one(self) -> Iterator[list[dict[str, Any]]]:
        """The same, each operation a batch of its own."""
        while True:
            for operation in self.batch():
                yield [operation]

    def hundreds(self) -> Iterator[list[dict[str, Any]]]:
        """Batch after batch."""
        while True:
            yield self.batch()

    def _create(self, entity: str) -> dict[str, Any]:
        answers = {"tyres": "good", "lamps": [True, True], "mileage": self._rand.randrange(10**6), "remarks": "." * 80}
        data = {"template_id": TEMPLATE, "title": "Daily check", "answers": answers}
        return {"op_id": self._id(), "type": "inspection.create", "entity_id": entity, "data": data}

    def _operation(self, verb: str, entity: str, base: int, data: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "op_id": self._id(),
            "type": f"inspection.{verb}",
            "entity_id": entity,
            "base_version": base,
            "data": data or {},
        }

    def _id(self) -> str:
        return str(time_ordered_uuid(time.time(), self._rand))


class Client:
    """One connection that is kept, without a library: the cores are needed by what is measured."""

    def __init__(self, api: str, bearer: str) -> None:
        parts = urlsplit(api)
        self._address = (parts.hostname, parts.port)
        self._head = (
            f"Host: {parts.netloc}\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\n"
        ).encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, operations: list[dict[str, Any]]) -> tuple[int, bytes]:
        """Status and body of the answer to a batch."""
        return await self._ask(b"POST /api/v1/sync/batch", b"", orjson.dumps({"operations": operations}))

    async def send_alone(self, operation: dict[str, Any]) -> tuple[int, bytes]:
        """The same as a request of its own."""
        verb = operation["type"].rpartition(".")[2]
        entity, data = operation["entity_id"], operation["data"]
        headers = f'Idempotency-Key: "{operation["op_id"]}"\r\n'
        if verb == "create":
            line, data = "POST /api/v1/inspections", {**data, "inspection_id": entity}
        else:
            headers += f'If-Match: "{operation["base_version"]}"\r\n'
            line = f"PATCH /api/v1/inspections/{entity}"
            if verb != "update":
                line = f"POST /api/v1/inspections/{entity}/{verb}"
        return await self._ask(line.encode(), headers.encode(), orjson.dumps(data))

    async def _ask(self, line: bytes, headers: bytes, body: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        writer.write(b"%b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (line, self._head, headers, len(body), body))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        content = await reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1]), content

    def close(self) -> None:
        """Cut it."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


@dataclass
class Phase:
    """What one number of clients and one way of sending came to: batches of `size`, or single requests (0)."""

    size: int
    clients: int
    operations: int = 0
    seconds: float = 0.0
    api_cpu_s: float = 0.0
    postgres_cpu_s: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)
    wrong: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds if self.seconds else 0.0

    @property
    def per_core(self) -> float:
        """Operations per second that a core of API and Postgres together is busy."""
        spent = self.api_cpu_s + self.postgres_cpu_s
        return self.operations / spent if spent else 0.0

    def summary(self) -> dict[str, Any]:
        """For the file."""
        count = max(1, self.operations)
        return {
            "way": WAYS[self.size],
            "clients": self.clients,
            "operations": self.operations,
            "operations_per_s": round(self.rate),
            "operations_per_s_and_core": round(self.per_core),
            "operations_per_s_and_core_of_api": round(self.operations / self.api_cpu_s) if self.api_cpu_s else 0,
            "api_cpu_us_per_operation": round(self.api_cpu_s * 1e6 / count, 1),
            "postgres_cpu_us_per_operation": round(self.postgres_cpu_s * 1e6 / count, 1),
            "wrong": self.wrong[:5],
            **self.latencies.summary(),
        }


async def measure(machine: Machine, size: int, clients: int, seconds: float, seed: int) -> Phase:
    """Send for some seconds, after a moment that is not counted."""
    phase = Phase(size, clients)
    begin = asyncio.get_running_loop().time() + min(2.0, seconds / 4)
    end = begin + seconds

    async def client(number: int) -> None:
        name = f"bench-{os.getpid()}-{seed}-{number}"
        work = Work(seed * 1000 + number)
        sender = Client(machine.api, machine.token(name, "device"))
        loop = asyncio.get_running_loop()
        for batch in work.hundreds() if size == BATCH else work.one_by_one():
            sent = loop.time()
            if sent >= end:
                break
            if size:
                status, content = await sender.send(batch)
                applied = content.count(b'"status":"applied"')
            else:
                status, content = await sender.send_alone(batch[0])
                applied = int(status in (200, 201))
            took = loop.time() - sent
            if status not in (200, 201) or applied != len(batch):
                phase.wrong.append(f"{status} {content[:200]!r}")
            if sent >= begin:
                phase.operations += applied
                phase.latencies.add(took * 1000)
        sender.close()

    api, postgres = machine.pid("api"), machine.pid("postgres")
    tasks = [asyncio.create_task(client(number)) for number in range(clients)]
    await asyncio.sleep(begin - asyncio.get_running_loop().time())
    started, before = time.monotonic(), (cpu_nanoseconds(api), tree_cpu_seconds(postgres))
    await asyncio.sleep(end - asyncio.get_running_loop().time())
    phase.seconds = time.monotonic() - started
    phase.api_cpu_s = (cpu_nanoseconds(api) - before[0]) / 1e9
    phase.postgres_cpu_s = tree_cpu_seconds(postgres) - before[1]
    await asyncio.gather(*tasks)
    return phase


async def one_key(machine: Machine) -> tuple[int, float]:
    """Fifty calls at once with one key: how many say that they had the effect, and the longest wait in seconds."""
    bearer = machine.token("bench-one-key", "device")
    senders = [Client(machine.api, bearer) for _ in range(SAME_KEY)]
    operation = Work(7).batch()[:1]
    loop = asyncio.get_running_loop()

    async def call(sender: Client) -> tuple[bool, float]:
        began = loop.time()
        _, content = await sender.send(operation)
        return b'"status":"applied"' in content, loop.time() - began

    answers = await asyncio.gather(*(call(sender) for sender in senders))
    for sender in senders:
        sender.close()
    return sum(had for had, _ in answers), max(waited for _, waited in answers)


async def run(machine: Machine, clients: list[int], seconds: float, tick: Callable[[str], None]) -> dict[str, Any]:
    """All phases: the ways in turns, so that they meet the machine in the same state."""
    effects, waited = await one_key(machine)
    phases = []
    for number, count in enumerate(clients):
        for place, size in enumerate(WAYS):
            phases.append(await measure(machine, size, count, seconds, 3 * number + place))
            tick(f"{size} x {count}")
    ratios = {
        str(hundred.clients): {
            "throughput": round(hundred.rate / single.rate, 1) if single.rate else None,
            "per_core": round(hundred.per_core / single.per_core, 1) if single.per_core else None,
        }
        for hundred, single in zip(phases[::3], phases[2::3], strict=True)
    }
    return {
        "phases": [phase.summary() for phase in phases],
        "hundreds_beside_single": ratios,
        "one_key": {"calls": SAME_KEY, "effects": effects, "longest_s": round(waited, 3)},
    }


def main() -> int:
    """Run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of three phases per number of clients")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    console = Console(width=130)
    with running_machine(hubs=1, keep=options.keep, **SETTINGS) as machine, Progress(console=console) as progress:
        query(machine, _ADD_TEMPLATE, TEMPLATE)
        task = progress.add_task("sync", total=3 * len(options.clients))
        found = uvloop.run(run(machine, options.clients, options.seconds, lambda name: progress.advance(task)))
    for phase in found["phases"]:
        console.print(
            f"{phase['way']:>15}, {phase['clients']:>2} clients: "
            f"{phase['operations_per_s']:>6,}/s, {phase['operations_per_s_and_core']:>6,}/s and core "
            f"(API {phase['api_cpu_us_per_operation']} µs, Postgres {phase['postgres_cpu_us_per_operation']} µs each), "
            f"p50 {phase['p50_ms']:.1f} ms, p99 {phase['p99_ms']:.1f} ms"
        )
    console.print(f"hundreds beside single requests: {found['hundreds_beside_single']}")
    console.print(f"one key: {found['one_key']}")
    options.results.mkdir(exist_ok=True)
    file = options.results / f"sync-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    held = found["one_key"]["effects"] == 1 and found["one_key"]["longest_s"] <= SAME_KEY_MAX_S
    wrong = [text for phase in found["phases"] for text in phase["wrong"]]
    for text in wrong[:5]:
        console.print(f"wrong: {text}", style="red")
    return 0 if held and not wrong else 1


if __name__ == "__main__":
    raise SystemExit(main())
