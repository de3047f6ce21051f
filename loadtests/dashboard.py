"""`python -m loadtests.dashboard`: what live pages cost the API, and how they look, with devices and events in flow.

Starts a whole Fleetwire of its own with real devices. Events are published and request files dropped all the time;
viewers come and go in turns, and the CPU of the API with them is compared with that without. Then the pages are opened
in a real Chromium: how quickly they show the fleet, whether anything moves by itself, whether all has a name and can be
read; and pictures are taken (`--docs` writes them to docs/dashboard/). Exits with 0 only if all that holds.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import Any, Final

import asyncpg
import httpx

from loadtests.dashboard_pictures import pictures
from loadtests.machine import Machine, running_machine

__all__ = ["main"]

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = Path(__file__).parent / "results"
SESSION: Final = "/api/v1/dashboard/session"
SHARE_MAX: Final = 5.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_DEAD: Final = """
WITH made AS (
    INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, current_status,
                      attempts, worker, error, detected_at, created_at, started_at, finished_at)
    SELECT gen_random_uuid(), 'requests', 'photo', device_id, 'local', 'Requests/' || device_id || '/gone.jpg',
           'panorama-' || row_number() OVER () || '.jpg', 48234112, repeat('0', 64), 'dead', 5, 'worker-1',
           'the handler was ended: it took more than 512 MiB',
           t, t + interval '12 ms', t + interval '61 s', t + interval '64 s'
    FROM devices, (SELECT clock_timestamp() - interval '20 minutes' AS t) moments LIMIT 3
    RETURNING job_id, created_at
)
INSERT INTO job_status (job_id, ts, status, worker, detail)
SELECT job_id, created_at + s.after_s * interval '1 s', s.status, s.worker, s.detail FROM made, (VALUES
    (0, 'queued', NULL, NULL), (0.02, 'running', 'worker-1', 'attempt 1'),
    (3, 'retry', 'worker-1', 'the handler was ended: it took more than 512 MiB'),
    (61, 'running', 'worker-1', 'attempt 5'),
    (64, 'dead', 'worker-1', 'the handler was ended: it took more than 512 MiB')) AS s (after_s, status, worker, detail)
"""
SETTINGS: Final = {
    "FLEETWIRE_DB_POOL_MAX": "20",
    # Slow enough to be looked at.
    "FLEETWIRE_HUB_MOVES_PER_S": "5",
    "FLEETWIRE_HUB_DRAIN_RATE": "10",
    "FLEETWIRE_HUB_MEMBER_S": "2",
    "FLEETWIRE_HUB_SILENCE_S": "6",
}


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="loadtests.dashboard", description=__doc__)
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--hubs", type=int, default=3)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each turn, with viewers and without")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-pictures", action="store_true", help="measure the API only")
    parser.add_argument("--docs", action="store_true", help="write the pictures to docs/dashboard/")
    options = parser.parse_args(arguments)
    settings: dict[str, Any] = dict(SETTINGS)
    with running_machine("--devices", str(options.devices), hubs=options.hubs, **settings) as machine:
        result = asyncio.run(_run(machine, options))
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / f"dashboard-{time.strftime('%Y%m%d-%H%M%S')}.json"
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    print(f"saved {out.relative_to(ROOT)}")
    return 1 if result["problems"] else 0


async def _run(machine: Machine, options: argparse.Namespace) -> dict[str, Any]:
    bearer = machine.token("olga", "operator")
    flow = asyncio.create_task(_flow(machine, options.devices, options.rate))
    try:
        await _bury(machine)
        await asyncio.sleep(5)
        result: dict[str, Any] = {"devices": options.devices, "hubs": options.hubs, "viewers": options.viewers}
        result |= await _cost(machine, bearer, options)
        problems = []
        if result["api_share_percent"] > SHARE_MAX:
            problems.append(f"{options.viewers} viewers cost the API more than {SHARE_MAX:g} % of a core")
        if not options.no_pictures:
            folder = ROOT / "docs" / "dashboard" if options.docs else machine.folder / "pictures"
            result["pages"] = await pictures(machine.api, bearer, folder)
            problems += result["pages"]["problems"]
        return result | {"problems": problems}
    finally:
        flow.cancel()
        with suppress(asyncio.CancelledError):
            await flow


async def _flow(machine: Machine, devices: int, rate: float) -> None:
    """Events at a rate, and a request file every second."""
    rand = Random(7)
    headers = {"Authorization": f"Bearer {machine.token('load', 'service')}"}
    samples = ROOT / "infra" / "demo" / "files"
    for number in range(1, devices + 1):
        # A folder that is new is looked into a while later; those of real devices are there.
        (machine.cloud / "Requests" / f"sim-{number:04}").mkdir(parents=True, exist_ok=True)
    files = [samples / "stock.csv", samples / "visits.jsonl", samples / "launch.jpg"]
    batch = max(1, round(rate / 5))
    async with httpx.AsyncClient(base_url=machine.api, headers=headers, timeout=10, trust_env=False) as client:
        number = 0
        while True:
            began = time.monotonic()
            number += 1
            events = [
                {
                    "device_id": f"sim-{rand.randint(1, devices):04}",
                    "type": "RouteChanged",
                    "data": {"route": f"A{rand.randint(1, 9)}", "at": token_hex(4)},
                }
                for _ in range(batch)
            ]
            with suppress(httpx.HTTPError):
                await client.post("/api/v1/events", json={"events": events})
            if number % 5 == 0:
                target = f"sim-{rand.randint(1, devices):04}"
                sample = rand.choice(files)
                name = f"{sample.stem}-{token_hex(3)}{sample.suffix}"
                await asyncio.to_thread(_drop, machine.cloud / "Requests" / target, name, sample.read_bytes())
            await asyncio.sleep(max(0.0, 0.2 - (time.monotonic() - began)))


async def _bury(machine: Machine) -> None:
    """Jobs that ended dead, as a worker leaves them; no request does that by itself within a minute."""
    connection = await asyncpg.connect(machine.database_url)
    try:
        await connection.execute(_DEAD)
    finally:
        await connection.close()


def _drop(folder: Path, name: str, content: bytes) -> None:
    (folder / f".{name}").write_bytes(content)
    (folder / f".{name}").rename(folder / name)


async def _cost(machine: Machine, bearer: str, options: argparse.Namespace) -> dict[str, Any]:
    """CPU of the API with viewers less that without, in turns, so that both see the same weather."""
    pids = {name: pid for name, pid in machine.pids().items() if name == "api" or name.startswith("hub-")}
    shares: dict[str, list[float]] = {name: [] for name in pids}
    alone: list[float] = []
    rates: list[float] = []
    sent = [0]
    for turn in range(options.turns):
        without = await _share(pids, options.seconds)
        async with AsyncExitStack() as stack:
            for number in range(options.viewers):
                viewer = asyncio.create_task(_view(machine.api, bearer, number, sent))
                stack.callback(viewer.cancel)
            await asyncio.sleep(2)
            before = sent[0]
            with_them = await _share(pids, options.seconds)
            rates.append((sent[0] - before) / options.seconds / options.viewers)
        for name in pids:
            shares[name].append(with_them[name] - without[name])
        alone.append(without["api"])
        print(f"turn {turn + 1}: API {without['api']:.1f} % without, {with_them['api']:.1f} % with viewers", flush=True)
        await asyncio.sleep(6)  # until the reader rests
    return {
        "api_share_percent": round(statistics.median(shares["api"]), 2),
        "api_shares_percent": [round(one, 2) for one in shares["api"]],
        "api_without_percent": round(statistics.median(alone), 2),
        "hub_share_percent": round(
            statistics.median(each for name in shares if name != "api" for each in shares[name]), 2
        ),
        "bytes_per_s_per_viewer": round(statistics.median(rates)),
    }


async def _share(pids: dict[str, int], seconds: float) -> dict[str, float]:
    """CPU of each in percent of a core."""
    before, began = {name: _ticks(pid) for name, pid in pids.items()}, time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    return {name: 100 * (_ticks(pid) - before[name]) / _TICKS / took for name, pid in pids.items()}


def _ticks(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return int(fields[11]) + int(fields[12])


async def _view(api: str, bearer: str, number: int, sent: list[int]) -> None:
    """One live page as the API sees it: signed in, looking at fifty devices."""
    async with httpx.AsyncClient(base_url=api, timeout=30, trust_env=False) as client:
        (await client.post(SESSION, json={"token": bearer})).raise_for_status()
        devices = ",".join(f"sim-{one:04}" for one in range(1 + 10 * number, 51 + 10 * number))
        async with client.stream("GET", "/api/v1/dashboard/live", params={"devices": devices}) as answer:
            answer.raise_for_status()
            async for part in answer.aiter_raw():
                sent[0] += len(part)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
