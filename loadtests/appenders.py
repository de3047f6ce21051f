"""Four appenders with contended and repeated keys; then the log must be whole. And how many events a second it takes.

Each appender records batches for the same devices under keys that the others use too, so that most claims meet a
rival. At the end every device's head equals its rows, with no seq missing and no key recorded twice.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random

import uvloop
from rich.console import Console

from infra.migrations.runner import migrate
from infra.onebox.home import Home
from infra.onebox.postgres import EmbeddedPostgres
from loadtests.ports import free_port
from loadtests.run_folder import run_folder
from loadtests.stand import child
from shared.protocol.event import body_hash, encode_event
from shared.store import devices, log
from shared.store.pool import Pool, open_pool

RESULTS = Path(__file__).parent / "results"
DEVICES = 100


def event(device_id: str, key: str) -> log.NewEvent:
    """An event of some 200 bytes."""
    data = {"filler": "x" * 60}
    body = encode_event(event_id=key, event_type="Load", source="/load", time="2026-01-01T00:00:00Z", data=data)
    return log.NewEvent(device_id, key, "Load", body, body_hash("Load", data))


async def contend(pool: Pool, seconds: float, appenders: int) -> dict[str, object]:
    """All appenders at once; any error ends the run."""
    results: Counter[str] = Counter()
    end = time.monotonic() + seconds

    async def appender(seed: int) -> None:
        rand = Random(seed)
        while (now := time.monotonic()) < end:
            size = rand.choice((1, 7, 50, 200))
            # A few hundred keys for a quarter of a second: every batch meets rivals and what they have committed.
            batch = [event(f"d{rand.randrange(DEVICES)}", f"{int(now * 4)}-{rand.randrange(50)}") for _ in range(size)]
            results.update(result.status for result in await log.append_committed(pool, batch))

    await asyncio.gather(*(appender(seed) for seed in range(appenders)))
    (row,) = await pool.fetch(
        "SELECT (SELECT sum(head_seq) FROM devices)::bigint AS heads, count(*) AS rows, "
        "count(DISTINCT (device_id, event_id)) AS ids FROM events"
    )
    holes = await pool.fetch(
        "SELECT device_id FROM events GROUP BY device_id HAVING max(seq) <> count(*) OR min(seq) <> 1"
    )
    return {
        **results,
        "heads": row["heads"],
        "rows": row["rows"],
        "distinct": row["ids"],
        "devices_with_holes": len(holes),
    }


async def rate(pool: Pool, batch: int, seconds: float) -> float:
    """Events per second of one appender with batches of this size."""
    number, start = 0, time.monotonic()
    while (spent := time.monotonic() - start) < seconds:
        items = [event(f"d{(number + n) % DEVICES}", f"rate-{batch}-{number + n}") for n in range(batch)]
        await log.append_committed(pool, items)
        number += batch
    return number / spent


async def run(url: str, seconds: float, console: Console) -> dict[str, object]:
    """Contend, check, measure."""
    pool = await open_pool(url, name="appenders", max_size=8)
    try:
        for number in range(DEVICES):
            await devices.ensure(pool, f"d{number}", "truck")
        console.print(f"4 appenders for {seconds:g} s …")
        found = await contend(pool, seconds, 4)
        rates = {str(batch): round(await rate(pool, batch, 5)) for batch in (1, 500)}
    finally:
        await pool.close()
    return {**found, "events_per_second": rates}


def main() -> int:
    """Run on a Postgres of its own, durable as in production."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    console = Console()
    with ExitStack() as stack:
        folder = stack.enter_context(run_folder("fleetwire-append-"))
        home = Home(folder / "home")
        home.prepare()
        server = EmbeddedPostgres(home, port=free_port())
        server.prepare()
        stack.enter_context(child(server.launch_arguments(), folder / "postgres.log", server.environment()))
        uvloop.run(server.wait_ready(60))
        uvloop.run(migrate(server.url))
        found = uvloop.run(run(server.url, options.seconds, console))
    whole = found["heads"] == found["rows"] == found["distinct"] and not found["devices_with_holes"]
    console.print(found)
    console.print("[green]the log is whole" if whole else "[red]THE LOG IS NOT WHOLE")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"appenders-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(json.dumps(found) + "\n")
    return 0 if whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
