"""The whole path: an event recorded in Postgres → bus → hub → device → its ack recorded in Postgres.

Once at a fixed rate, then at the highest rate that is held, looked for from there upwards; with the CPU of each process
that has a part in it. Postgres is durable, everything of the hub is on. Clocked from when an event was due.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table

from loadtests.bench.devices import Devices, running_devices
from loadtests.bench.search import Try, best, next_rate
from loadtests.process import cpu_seconds, start_python, tree_cpu_seconds
from loadtests.stand import Hub, Stand, running_stand

__all__ = ["Plan", "held", "measure", "table"]

RESULTS: Final = Path(__file__).parents[1] / "results"
_POLL_S: Final = 0.1  # oftener than a hub writes acks
_CATCH_UP_S: Final = 5.0
_HIGHEST: Final = 64_000
_ACK_LATENCY = """
SELECT count(*), percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY o.at - s.due), max(o.at - s.due)
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::float8[]) AS o (device_id, before, acked, at)
JOIN events e ON e.device_id = o.device_id AND e.seq > o.before AND e.seq <= o.acked
CROSS JOIN LATERAL (SELECT substring(e.body FROM '"sent_ns":(\\d+)')::float8 / 1e9 + $5 AS due) s
"""


class Plan:
    """How much: devices, the fixed rate, and how long each part lasts."""

    def __init__(
        self, *, devices: int = 500, rate: int = 1000, seconds: float = 20, probe_s: float = 6, hold_s: float = 60
    ) -> None:
        self.devices = devices
        self.rate = rate
        self.seconds = seconds
        self.probe_s = probe_s
        self.hold_s = hold_s


def held(figures: dict[str, Any]) -> bool:
    """Whether a rate was held: recorded in time, all of it shown and acked, in order, and within a second."""
    return bool(
        figures["recorded"] >= 0.99 * figures["wanted"]
        and figures["late_s"] <= 1.0
        and figures["shown"] == figures["recorded"] == figures["acks_recorded"]
        and figures["gaps"] == 0
        and figures["shown_ms"]["p99_ms"] <= 1000
    )


class _Acks:
    """Watches the cursors: when Postgres had which ack. One cheap statement every tenth of a second."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._known: dict[str, int] = {}
        self._seen: list[tuple[str, int, int, float]] = []

    async def look(self) -> int:
        """Note what moved. Returns how many events are recorded and not acked."""
        rows = await self._connection.fetch(
            "SELECT c.device_id, c.acked_seq, extract(epoch FROM c.acked_at)::float8, d.head_seq "
            "FROM cursors c JOIN devices d USING (device_id)"
        )
        for device_id, acked, at, _ in rows:
            if acked > self._known.get(device_id, 0):
                self._seen.append((device_id, self._known.get(device_id, 0), acked, at))
                self._known[device_id] = acked
        return sum(head - acked for _, acked, _, head in rows)

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_POLL_S)

    async def latency(self) -> dict[str, float]:
        """From when events were due until their acks were recorded, of all seen since the last call."""
        seen, self._seen = self._seen, []
        columns = [list(column) for column in zip(*seen, strict=True)] or [[], [], [], []]
        count, percentiles, longest = await self._connection.fetchrow(
            _ACK_LATENCY, *columns, time.time() - time.monotonic()
        )
        p50, p99 = percentiles or (0.0, 0.0)
        figures = {"p50_ms": p50 * 1000, "p99_ms": p99 * 1000, "max_ms": (longest or 0.0) * 1000}
        return {"count": count} | {name: round(value, 1) for name, value in figures.items()}


class _Path:
    """Servers, devices and appender of one run."""

    def __init__(self, stand: Stand, hub: Hub, devices: Devices, appender: "Popen[str]", acks: _Acks) -> None:
        self._stand = stand
        self._hub = hub
        self._devices = devices
        self._appender = appender
        self._acks = acks

    def _cpu(self) -> dict[str, float]:
        return {
            "postgres": tree_cpu_seconds(self._stand.pids["postgres"]),
            "valkey": cpu_seconds(self._stand.pids["valkey"]),
            "hub": cpu_seconds(self._hub.pid),
            "appender": cpu_seconds(self._appender.pid),
            "devices": cpu_seconds(self._devices.pid),
        }

    async def stretch(self, rate: int, seconds: float) -> dict[str, Any]:
        """Some time at a rate, and what came of it."""
        watching = asyncio.create_task(self._acks.watch())
        try:
            before = self._cpu()
            sent = await _ask(self._appender, {"rate": rate, "seconds": seconds})
            after = self._cpu()
        finally:
            watching.cancel()
            await asyncio.wait({watching})
        end = time.monotonic() + _CATCH_UP_S
        while await self._acks.look() and time.monotonic() < end:
            await asyncio.sleep(_POLL_S)
        seen = self._devices.ask("report")
        acked = await self._acks.latency()
        spent = {name: after[name] - before[name] for name in before}
        figures = {
            "rate": rate,
            **sent,
            "recorded_per_s": round(sent["recorded"] / sent["seconds"]),
            "shown": seen["events"],
            "gaps": seen["gaps"],
            "shown_ms": seen["latency"],
            "acks_recorded": acked.pop("count"),
            "ack_recorded_ms": acked,
            "cpu_us_per_event": {name: round(s / max(sent["recorded"], 1) * 1e6, 1) for name, s in spent.items()},
            "cpu_of_a_core": {name: round(s / sent["seconds"], 3) for name, s in spent.items()},
        }
        return figures | {"held": held(figures)}


async def _ask(process: "Popen[str]", order: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    line = await asyncio.to_thread(process.stdout.readline)
    if not line:
        raise RuntimeError(f"{process.args!r} has ended")
    answer: dict[str, Any] = json.loads(line)
    return answer


@asynccontextmanager
async def _process(stand: Stand, module: str, orders: dict[str, Any]) -> AsyncIterator["Popen[str]"]:
    with (stand.folder / f"{module}.log").open("ab") as log:
        process = start_python(module, log=log)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(orders) + "\n")
        process.stdin.flush()
        if not await asyncio.to_thread(process.stdout.readline):
            raise RuntimeError(f"{module} failed:\n{(stand.folder / f'{module}.log').read_text()[-2000:]}")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def _run(stand: Stand, hub: Hub, plan: Plan, show: Callable[[str], None]) -> list[dict[str, Any]]:
    names = [f"path-{number}" for number in range(plan.devices)]
    await stand.make_devices(names)
    async with AsyncExitStack() as stack:
        devices = stack.enter_context(running_devices(stand, hub.port, names))
        await asyncio.to_thread(devices.welcomed)
        orders = {"database_url": stand.postgres.url, "redis_url": stand.valkey.url, "devices": names}
        appender = await stack.enter_async_context(_process(stand, "loadtests.bench.appender", orders))
        # Judging a minute at full rate reads a million rows, which no process of ours would be allowed to.
        connection = await asyncpg.connect(stand.postgres.url, server_settings={"statement_timeout": "0"})
        stack.push_async_callback(connection.close)
        path = _Path(stand, hub, devices, appender, _Acks(connection))
        show("warming up")
        await path.stretch(plan.rate, 2.0)
        show(f"{plan.rate:,}/s for {plan.seconds:g} s")
        results = [await path.stretch(plan.rate, plan.seconds)]
        tries = [Try(plan.rate, results[0]["held"])]
        while (rate := next_rate(tries, first=plan.rate, highest=_HIGHEST)) is not None:
            show(f"{rate:,}/s tried")
            tries.append(Try(rate, (await path.stretch(rate, plan.probe_s))["held"]))
        rate = best(tries)
        while rate > plan.rate:
            show(f"{rate:,}/s for {plan.hold_s:g} s")
            results.append(await path.stretch(rate, plan.hold_s))
            if results[-1]["held"]:
                break
            rate = rate * 9 // 10
        return results


def measure(plan: Plan, show: Callable[[str], None]) -> list[dict[str, Any]]:
    """Figures of the fixed rate first; the last ones are of the highest rate held, unless the first failed."""
    with running_stand() as stand, stand.hub(capacity=plan.devices + 10) as hub:
        return uvloop.run(_run(stand, hub, plan, show))


def table(results: list[dict[str, Any]]) -> Table:
    """For people."""
    found = Table(title="Recorded → bus → hub → device → ack recorded: CPU µs per event, latency from when it was due")
    columns = ("events/s", "held", "shown p50 ms", "p99", "ack recorded p50 ms", "p99")
    for name in (*columns, "Postgres µs", "Valkey µs", "hub µs", "appender µs", "devices µs", "lost"):
        found.add_column(name, justify="right")
    for figures in results:
        cpu = figures["cpu_us_per_event"]
        found.add_row(
            f"{figures['recorded_per_s']:,}",
            "yes" if figures["held"] else "no",
            f"{figures['shown_ms']['p50_ms']:.1f}",
            f"{figures['shown_ms']['p99_ms']:.1f}",
            f"{figures['ack_recorded_ms']['p50_ms']:.0f}",
            f"{figures['ack_recorded_ms']['p99_ms']:.0f}",
            *(f"{cpu[name]:.1f}" for name in ("postgres", "valkey", "hub", "appender", "devices")),
            str(figures["recorded"] - figures["shown"]),
        )
    return found


def main() -> int:
    """Measure, show, save. Exit status 1 when events were lost or even the fixed rate was not held."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.whole_path", description=__doc__)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--rate", type=int, default=1000, help="events per second of the first part (default 1000)")
    parser.add_argument("--seconds", type=float, default=20, help="how long the first part lasts (default 20)")
    parser.add_argument("--probe", type=float, default=6, help="how long a rate is tried (default 6)")
    parser.add_argument("--hold", type=float, default=60, help="how long the highest rate must be held (default 60)")
    options = parser.parse_args()
    console = Console()
    console.width = max(console.width, 130)
    plan = Plan(
        devices=options.devices,
        rate=options.rate,
        seconds=options.seconds,
        probe_s=options.probe,
        hold_s=options.hold,
    )
    results = measure(plan, lambda said: console.print(f"[dim]{said}"))
    console.print(table(results))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"whole-path-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps({"devices": options.devices, "results": results}, indent=1) + "\n")
    whole = all(figures["gaps"] == 0 and figures["recorded"] == figures["shown"] for figures in results)
    return 0 if whole and results[0]["held"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
