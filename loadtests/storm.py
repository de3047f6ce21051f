"""A storm: thousands of devices with missed events connect to one hub in the same instant.

Clocked from the first SYN until Postgres has the last ack. Statements are counted from Postgres' own log, all that the
hub sent in that time, its sweep and membership included. Every device must be shown its events once and in
order, and every ack must be recorded. The caps are raised by settings; nothing else of the hub is changed.
"""

import argparse
import asyncio
import json
import subprocess
import time
from itertools import islice
from pathlib import Path
from typing import Any, Final

import asyncpg
import uvloop
from rich.console import Console

from loadtests.driver.burst import event_id
from loadtests.process import cpu_seconds, resident_bytes, start_python, tree_cpu_seconds
from loadtests.stand import Hub, Stand, running_stand
from loadtests.statements import LOGGING, Statement, count_by_name, read_log
from shared.protocol.event import body_hash, encode_event
from shared.store import log
from shared.store.pool import open_pool
from shared.store.queries import statements

__all__ = ["main"]

RESULTS: Final = Path(__file__).parent / "results"
_APPLICATION: Final = "fleetwire-load"
_LOGGED_S: Final = 0.3  # what Postgres did stands in its log
_PAYLOAD: Final = {"filler": "x" * 60}


async def record_missed(stand: Stand, device_ids: list[str], missed: int) -> None:
    """Give every device `missed` events."""
    pool = await open_pool(stand.postgres.url, name="storm", max_size=1)
    hashed = body_hash("Storm", _PAYLOAD)
    news = (
        log.NewEvent(
            device_id,
            event_id(device_id, seq),
            "Storm",
            encode_event(
                event_id=event_id(device_id, seq),
                event_type="Storm",
                source="/storm",
                time="2026-01-01T00:00:00Z",
                data=_PAYLOAD,
            ),
            hashed,
        )
        for seq in range(1, missed + 1)
        for device_id in device_ids
    )
    try:
        while batch := list(islice(news, 500)):
            await log.append_committed(pool, batch)
        await pool.fetch("ANALYZE events, devices, cursors")
    finally:
        await pool.close()


async def all_recorded(stand: Stand, missed: int, devices: int, deadline_s: float) -> tuple[float, int]:
    """Wait until every cursor stands at `missed`. When the last one was moved (Unix seconds), and how many were not."""
    connection = await asyncpg.connect(stand.postgres.url)
    try:
        end = time.monotonic() + deadline_s
        while True:
            moved, last = await connection.fetchrow(
                "SELECT count(*), max(extract(epoch FROM acked_at))::float8 FROM cursors WHERE acked_seq = $1", missed
            )
            if moved == devices or time.monotonic() > end:
                return last or 0.0, devices - moved
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


def blow(stand: Stand, hub: Hub, device_ids: list[str], missed: int, deadline_s: float) -> dict[str, Any]:
    """One storm and its figures."""
    with (stand.folder / "burst.log").open("ab") as words:
        burst = start_python("loadtests.driver.burst", log=words)
    try:
        assert burst.stdin is not None
        assert burst.stdout is not None
        orders = {
            "port": hub.port,
            "tokens": {device_id: stand.token(device_id) for device_id in device_ids},
            "missed": missed,
            "deadline_s": deadline_s,
        }
        _tell(burst, json.dumps(orders))
        if burst.stdout.readline().strip() != "prepared":
            raise RuntimeError(f"the driver failed:\n{(stand.folder / 'burst.log').read_text()}")
        resident, hub_cpu, postgres_cpu = _spent(stand, hub)
        _tell(burst, "go")
        seen: dict[str, Any] = json.loads(burst.stdout.readline())
        last_ack, unrecorded = uvloop.run(all_recorded(stand, missed, len(device_ids), 10.0))
        resident_after, hub_cpu_after, postgres_cpu_after = _spent(stand, hub)
        time.sleep(_LOGGED_S)
        sent = _statements(stand, seen["first_syn_unix"], last_ack)
        burst.wait(30)
    finally:
        burst.kill()
        burst.wait()
        for pipe in (burst.stdin, burst.stdout):
            if pipe is not None:
                pipe.close()
    names = statements("cursors") | statements("log") | statements("hubs") | statements("devices")
    return {
        "devices": len(device_ids),
        "missed_each": missed,
        "first_syn_to_last_ack_recorded_s": round(last_ack - seen["first_syn_unix"], 3),
        "statements": len(sent),
        "statements_by_name": count_by_name(sent, names),
        "lost": len(device_ids) * missed - seen["shown"],
        "acks_not_recorded": unrecorded,
        "hub_cpu_s": round(hub_cpu_after - hub_cpu, 2),
        "postgres_cpu_s": round(postgres_cpu_after - postgres_cpu, 2),
        "hub_resident_kb_per_device": round((resident_after - resident) / 1024 / len(device_ids), 1),
        **{name: value for name, value in seen.items() if name != "first_syn_unix"},
    }


def _spent(stand: Stand, hub: Hub) -> tuple[int, float, float]:
    return resident_bytes(hub.pid), cpu_seconds(hub.pid), tree_cpu_seconds(stand.pids["postgres"])


def _statements(stand: Stand, since: float, until: float) -> list[Statement]:
    with (stand.folder / "postgres.log").open(encoding="utf-8", errors="replace") as lines:
        return [
            found
            for found in read_log(lines)
            if found.application == _APPLICATION and since - 0.001 <= found.at <= until + 0.001
        ]


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def passed(figures: dict[str, Any], *, seconds: float, most_statements: int) -> bool:
    """Nothing lost, repeated or unrecorded, and both within the goal."""
    return bool(
        figures["lost"] == figures["out_of_order_or_repeated"] == figures["acks_not_recorded"] == 0
        and figures["first_syn_to_last_ack_recorded_s"] <= seconds
        and figures["statements"] <= most_statements
    )


def lines(figures: dict[str, Any]) -> list[str]:
    """For people."""
    kinds = ", ".join(f"{name} {count}" for name, count in figures["statements_by_name"].items())
    welcome, took = figures["welcome"], figures["first_syn_to_last_ack_recorded_s"]
    return [
        f"{figures['devices']:,} devices, {figures['missed_each']} missed events each",
        f"first SYN to last ack recorded {took:.2f} s, {figures['statements']} statements: {kinds}",
        f"lost {figures['lost']}, repeated or out of order {figures['out_of_order_or_repeated']}",
        f"acks not recorded {figures['acks_not_recorded']}, refused {figures['refusals'] or 0}, cut {figures['cut']}",
        f"{figures['connects_per_s']:,} connects/s, {figures['hub_resident_kb_per_device']} KB a device",
        f"welcomed after p50 {welcome['p50_ms']:.0f} ms, p99 {welcome['p99_ms']:.0f} ms",
        f"CPU s: hub {figures['hub_cpu_s']}, Postgres {figures['postgres_cpu_s']}, driver {figures['driver_cpu_s']}",
    ]


def main() -> int:
    """Prepare, blow, judge, save. Exit status 1 unless all of the goal is met."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.storm", description=__doc__)
    parser.add_argument("--devices", type=int, default=5000)
    parser.add_argument("--missed", type=int, default=10, help="events that wait for each device")
    parser.add_argument("--seconds", type=float, default=5.0, help="goal: first SYN to last ack (default 5)")
    parser.add_argument("--statements", type=int, default=200, help="goal: statements to Postgres (default 200)")
    parser.add_argument("--deadline", type=float, default=60.0, help="give up after so many seconds")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    device_ids = [f"storm-{number}" for number in range(options.devices)]
    with running_stand(postgres_settings=LOGGING) as stand:
        uvloop.run(stand.make_devices(device_ids))
        uvloop.run(record_missed(stand, device_ids, options.missed))
        with stand.hub(capacity=options.devices + 10) as hub:
            time.sleep(1.0)  # its membership is settled
            figures = blow(stand, hub, device_ids, options.missed, options.deadline)
        told = (stand.folder / "hub.log").read_text("utf-8", "replace")
    met = passed(figures, seconds=options.seconds, most_statements=options.statements)
    for line in lines(figures):
        console.print(line)
    if told:
        console.print(f"the hub said: {told[-2000:]}", markup=False)
    console.print(f"{'within' if met else 'NOT WITHIN'} {options.seconds:g} s and {options.statements} statements")
    options.results.mkdir(exist_ok=True)
    file = options.results / f"storm-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(figures | {"passed": met}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
