"""Devices that stop reading while a megabyte a second waits for each: what it costs the hub, and what the others.

Phases alternate within one run, so that a busy machine is busy for all of them: `quiet`; `absent`, with the same stream
of events for as many devices that are not connected, so that Postgres, Valkey and the machine are as loaded; `stopped`,
with the stream for devices that have stopped. Those have read and acked before, so that each has a megabyte in flight.
Judged are the hub's memory against the time before any of them came, and the p99 of the others, `stopped` against
`absent`. The kernel's send buffers are kept small, so that the hub must hold what is in flight, and what they hold is
said beside it.
"""

import argparse
import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import asyncpg
import uvloop
from rich.console import Console

from loadtests.driver.fleet import Fleet, FleetOptions
from loadtests.driver.latency import Latencies
from loadtests.driver.stopping import StoppingDevice
from loadtests.process import cpu_seconds, resident_bytes, start_python
from loadtests.stand import Hub, Stand, running_stand
from shared.bus.message import EVENT, Message
from shared.bus.publisher import Publisher
from shared.protocol.event import body_hash, encode_event
from shared.store import log
from shared.store.pool import open_pool

__all__ = ["lines", "main", "passed"]

RESULTS: Final = Path(__file__).parent / "results"
MIB: Final = 1024 * 1024
WARM_BYTES: Final = 3 * MIB // 2  # acked by each before it stops: the window has grown to a megabyte
TURN_S: Final = 0.02


class FeederProcess:
    """The feeder as a child; one order, one answer."""

    def __init__(self, stand: Stand, event_bytes: int) -> None:
        self._log = (stand.folder / "feeder.log").open("ab")
        self._process: subprocess.Popen[str] = start_python("loadtests.driver.feeder", log=self._log)
        self._first = {"database": stand.postgres.url, "redis": stand.valkey.url, "event_bytes": event_bytes}

    async def start(self) -> None:
        """Let it connect."""
        await self.order(**self._first)

    async def order(self, **order: Any) -> dict[str, Any]:
        """Give it, and wait for the answer."""
        return await asyncio.to_thread(self._order, order)

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the feeder failed; see feeder.log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """It goes with its pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Others:
    """Devices that read, and small events for them; `latencies` are of the phase under way, from publish to shown."""

    def __init__(self, fleet: Fleet, rate: float) -> None:
        self.latencies = Latencies()
        self.published = 0
        self._fleet = fleet
        self._rate = rate
        self._sent: dict[bytes, int] = {}
        fleet.on_event = self._on_event

    def _on_event(self, device_id: str, payload: bytes) -> None:
        at = payload.find(b'"id":"') + 6
        sent = self._sent.pop(payload[at : payload.index(b'"', at)], None)
        if sent is not None:
            self.latencies.add((time.monotonic_ns() - sent) / 1e6)

    async def publish(self, stand: Stand, rand: Random) -> None:
        """Until cancelled."""
        pool = await open_pool(stand.postgres.url, name="others", max_size=1)
        publisher = Publisher(stand.valkey.url, name="others")
        running = asyncio.create_task(publisher.run())
        data = {"filler": "x" * 60}
        hashed = body_hash("Small", data)
        ids = [device.device_id for device in self._fleet.devices]
        began, number = time.monotonic(), 0
        try:
            while True:
                await asyncio.sleep(TURN_S)
                news = []
                while number < (time.monotonic() - began) * self._rate:
                    number += 1
                    body = encode_event(
                        event_id=f"other-{number}",
                        event_type="Small",
                        source="/others",
                        time="2026-01-01T00:00:00Z",
                        data=data,
                    )
                    news.append(log.NewEvent(rand.choice(ids), f"other-{number}", "Small", body, hashed))
                results = await log.append_committed(pool, news) if news else []
                for new, result in zip(news, results, strict=True):
                    self._sent[new.event_id.encode()] = time.monotonic_ns()
                    publisher.offer(Message(EVENT, new.device_id, result.epoch, result.seq, new.body))
                self.published += len(news)
        finally:
            running.cancel()
            await pool.close()


class Run:
    """The phases and what they showed."""

    def __init__(self, options: argparse.Namespace, stand: Stand, hub: Hub, feeder: FeederProcess) -> None:
        self._options = options
        self._stand = stand
        self._hub = hub
        self._feeder = feeder
        self.before = resident_bytes(hub.pid)
        self.latencies = {name: Latencies() for name in ("quiet", "absent", "stopped")}
        self.cpu_s = dict.fromkeys(self.latencies, 0.0)
        self.fed_bytes = dict.fromkeys(self.latencies, 0)
        self.growths: list[int] = []
        self.in_kernel: list[int] = []
        self.after_growths: list[int] = []
        self.wrong = self.resumed = self.cut_early = 0

    async def cycle(self, others: Others, stopping_ids: Sequence[str], absent_ids: Sequence[str]) -> None:
        """All phases once."""
        stopping = [StoppingDevice(one, self._hub.port, self._stand.token(one)) for one in stopping_ids]
        await self._feeder.order(record=list(stopping_ids), bytes=WARM_BYTES)
        for device in stopping:
            await device.connect()
        warm = -(-WARM_BYTES // self._options.event_bytes)
        await _until(lambda: all(device.seq >= warm for device in stopping), 60.0, "the stopping devices did not read")
        await self._phase("quiet", others, [])
        await self._phase("absent", others, absent_ids)
        for device in stopping:
            device.stop_reading()
        most = await self._phase("stopped", others, stopping_ids)
        self.growths.append(most - self.before)
        self.in_kernel.append(_unsent_bytes(self._hub.port))
        self.cut_early += sum(not device.is_connected for device in stopping)
        await self._read_on(stopping[:3])
        for device in stopping:
            device.cut()
        self.wrong += sum(device.wrong for device in stopping)
        await asyncio.sleep(2.0)
        self.after_growths.append(resident_bytes(self._hub.pid) - self.before)

    async def _read_on(self, some: list[StoppingDevice]) -> None:
        """They go on, from what was in flight and then from the log, to its end."""
        heads = await self._heads([device.device_id for device in some])
        for device in some:
            device.read_on()
        try:
            await _until(lambda: all(one.seq >= heads[one.device_id] for one in some), 60.0, "did not go on")
        except RuntimeError as error:
            stood = [(one.device_id, one.seq, heads[one.device_id], one.close_code, one.is_connected) for one in some]
            raise RuntimeError(f"{error}: {stood}") from None
        self.resumed += len(some)

    async def _heads(self, device_ids: Sequence[str]) -> dict[str, int]:
        connection = await asyncpg.connect(self._stand.postgres.url)
        try:
            rows = await connection.fetch(
                "SELECT device_id, head_seq FROM devices WHERE device_id = ANY ($1::text[])", device_ids
            )
        finally:
            await connection.close()
        return {row["device_id"]: row["head_seq"] for row in rows}

    async def _phase(self, name: str, others: Others, fed: Sequence[str]) -> int:
        """The most resident bytes of the hub."""
        if fed:
            await self._feeder.order(feed=list(fed), bytes_per_s=self._options.bytes_per_s)
            await asyncio.sleep(1.0)
        others.latencies = Latencies()
        cpu, end = cpu_seconds(self._hub.pid), time.monotonic() + self._options.seconds
        most = 0
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
            most = max(most, resident_bytes(self._hub.pid))
        self.latencies[name].merge(others.latencies)
        self.cpu_s[name] += cpu_seconds(self._hub.pid) - cpu
        if fed:
            self.fed_bytes[name] += (await self._feeder.order(rest=True))["recorded_bytes"]
        return most


def _unsent_bytes(port: int) -> int:
    """What the kernel holds to send from this port, to anybody."""
    total = 0
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, _, queues, *_ = row.split()
        if int(local.rpartition(":")[2], 16) == port:
            total += int(queues.partition(":")[0], 16)
    return total


async def _until(condition: Any, deadline_s: float, otherwise: str) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def _others(options: argparse.Namespace, stand: Stand, hub: Hub, ids: list[str]) -> AsyncIterator[Others]:
    rand = Random(7)
    fleet = Fleet(ids, lambda one: (hub.url, stand.token(one)), FleetOptions(jitter_s=0.5, keep_history=True), rand)
    fleet.start_all()
    if not await fleet.all_welcomed(60.0):
        raise RuntimeError("the other devices were not welcomed")
    others = Others(fleet, options.rate)
    publishing = asyncio.create_task(others.publish(stand, rand))
    try:
        yield others
        publishing.cancel()
        await asyncio.wait([publishing])
        await _until(lambda: fleet.totals.events >= others.published, 20.0, "others' events are missing")
        if fleet.totals.gaps or fleet.totals.events != others.published:
            raise RuntimeError(f"others saw {fleet.totals}, {others.published} were published")
    finally:
        publishing.cancel()
        await fleet.stop()


async def measure(options: argparse.Namespace, stand: Stand, hub: Hub, others_ids: list[str]) -> dict[str, Any]:
    """The figures of a whole run."""
    feeder = FeederProcess(stand, options.event_bytes)
    try:
        await feeder.start()
        async with _others(options, stand, hub, others_ids) as others:
            await asyncio.sleep(2.0)
            run = Run(options, stand, hub, feeder)
            for number in range(options.cycles):
                await run.cycle(others, _ids(f"stop{number}", options.devices), _ids("absent", options.devices))
    finally:
        feeder.end()
    fed_s = options.cycles * (options.seconds + 1.0)
    return {
        "devices": options.devices,
        "others": options.others,
        "wanted_bytes_per_s": options.bytes_per_s,
        "event_bytes": options.event_bytes,
        "send_buffer_bytes": options.send_buffer,
        "fed_bytes_per_s_each": {
            name: round(fed / fed_s / options.devices) for name, fed in run.fed_bytes.items() if fed
        },
        "hub_mib_before": round(run.before / MIB, 1),
        "kernel_mib": [round(held / MIB, 1) for held in run.in_kernel],
        "hub_growth_mib": [round(growth / MIB, 1) for growth in run.growths],
        "hub_growth_mib_per_device": round(max(run.growths) / MIB / options.devices, 3),
        "hub_growth_mib_after_they_left": [round(growth / MIB, 1) for growth in run.after_growths],
        "others_ms": {name: latencies.summary() for name, latencies in run.latencies.items()},
        "p99_ratio": round(run.latencies["stopped"].percentile(99) / run.latencies["absent"].percentile(99), 3),
        "hub_cpu_share": {
            name: round(spent / options.cycles / options.seconds, 3) for name, spent in run.cpu_s.items()
        },
        "wrong_order": run.wrong,
        "went_on_when_read_again": run.resumed,
        "cut_before_the_end": run.cut_early,
    }


def _ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def passed(figures: dict[str, Any], *, mib_each: float, p99_ratio: float) -> bool:
    """Memory and latency within the goal, nothing wrong on the way."""
    return bool(
        figures["hub_growth_mib_per_device"] <= mib_each
        and figures["p99_ratio"] <= p99_ratio
        and figures["wrong_order"] == figures["cut_before_the_end"] == 0
    )


def lines(figures: dict[str, Any]) -> list[str]:
    """For people."""
    each = figures["fed_bytes_per_s_each"]
    rows = [
        f"{figures['devices']} devices stop reading; events of {figures['event_bytes']:,} B for each, MB/s: "
        + ", ".join(f"{name} {fed / 1e6:.2f}" for name, fed in each.items()),
        f"the hub grows by {figures['hub_growth_mib']} MiB, {figures['hub_growth_mib_per_device']:.2f} MiB for each",
        f"(from {figures['hub_mib_before']} MiB); the kernel holds {figures['kernel_mib']} MiB of what is in flight",
        f"once they are gone {figures['hub_growth_mib_after_they_left']} MiB of it are left",
        f"{'':10}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'events':>9}{'hub CPU':>9}",
    ]
    for name, summary in figures["others_ms"].items():
        rows.append(
            f"{name:10}{summary['p50_ms']:9.2f}{summary['p99_ms']:9.2f}{summary['max_ms']:9.2f}{summary['count']:9,}"
            f"{figures['hub_cpu_share'][name]:9.0%}"
        )
    rows.append(f"p99 of the others, stopped to absent: {figures['p99_ratio']:.2f}")
    rows.append(
        f"wrong order {figures['wrong_order']}, cut before the end {figures['cut_before_the_end']}, "
        f"went on when they read again {figures['went_on_when_read_again']}"
    )
    return rows


def main() -> int:
    """Run, judge, save. Exit status 1 unless all of the goal is met."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.stopped_readers", description=__doc__)
    parser.add_argument("--devices", type=int, default=100, help="that stop reading")
    parser.add_argument("--others", type=int, default=300, help="that go on")
    parser.add_argument("--rate", type=float, default=300.0, help="events per second for the others together")
    parser.add_argument("--bytes-per-s", type=float, default=1e6, help="for each that stops (default 1 MB/s)")
    parser.add_argument("--event-bytes", type=int, default=128 * 1024)
    parser.add_argument("--send-buffer", type=int, default=32768, help="most that the kernel holds; 0: its own way")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each phase (below 50: then they are closed)")
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--mib-each", type=float, default=1.2, help="goal: MiB of the hub for each that stops")
    parser.add_argument("--p99-ratio", type=float, default=1.2, help="goal: p99 of the others, stopped to absent")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    others_ids = _ids("other", options.others)
    with running_stand(durable=False) as stand:
        all_ids = others_ids + _ids("absent", options.devices)
        for number in range(options.cycles):
            all_ids += _ids(f"stop{number}", options.devices)
        uvloop.run(stand.make_devices(all_ids))
        settings = {
            "FLEETWIRE_HUB_SEND_BUFFER_BYTES": str(options.send_buffer),
            "FLEETWIRE_HUB_HANDSHAKES_BURST": "100000",  # all come at once, which is not what is measured
        }
        with stand.hub(capacity=options.devices + options.others + 10, **settings) as hub:
            figures = uvloop.run(measure(options, stand, hub, others_ids))
        told = (stand.folder / "hub.log").read_text("utf-8", "replace")
    met = passed(figures, mib_each=options.mib_each, p99_ratio=options.p99_ratio)
    for line in lines(figures):
        console.print(line, highlight=False)
    if told:
        console.print(f"the hub said: {told[-2000:]}", markup=False)
    console.print(
        f"{'within' if met else 'NOT WITHIN'} {options.mib_each:g} MiB each and a p99 ratio of {options.p99_ratio:g}"
    )
    options.results.mkdir(exist_ok=True)
    file = options.results / f"stopped-readers-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(figures | {"passed": met}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
