"""Two API instances behind a balancer are restarted one after another under load: no request may fail.

Each client is a device and those who work for it: it publishes an event, reads it, acks it and looks at a list, over
connections that it keeps. What it publishes must come exactly once and in order, whichever instance answers.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import uvloop
from rich.console import Console

from infra.onebox.spawn import launch_arguments
from loadtests.balancer import Balancer
from loadtests.driver.latency import Latencies
from loadtests.ports import free_port
from loadtests.stand import Stand, running_stand

__all__ = ["main", "roll"]

RESULTS: Final = Path(__file__).parent / "results"
STOP_MAX_S: Final = 20.0
_DEADLINE_S: Final = 30.0

Say = Callable[[str], None]


@dataclass
class Load:
    """What the clients saw."""

    latency: Latencies = field(default_factory=Latencies)
    requests: int = 0
    published: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    over: bool = False


class Instance:
    """One API process on a port of its own."""

    def __init__(self, stand: Stand, number: int, **settings: str) -> None:
        self.port = free_port()
        self._environment = stand.api_environment(
            FLEETWIRE_API_PORT=str(self.port), FLEETWIRE_OPS_PORT=str(free_port()), **settings
        )
        self._log = stand.folder / f"api-{number}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return at once."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                launch_arguments([sys.executable, "-m", "api"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self._environment,
            )

    async def stop(self) -> dict[str, Any]:
        """SIGTERM. How it ended, and how many seconds that took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(self._process.wait, 2 * STOP_MAX_S)
        return {"port": self.port, "status": status, "seconds": round(time.monotonic() - began, 2)}

    def close(self) -> None:
        """Whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


async def _client(stand: Stand, url: str, number: int, load: Load) -> None:
    device = f"rolling-{number}"
    path = f"/api/v1/devices/{device}"
    bearers = {
        name: {"Authorization": f"Bearer {token}"}
        for name, token in {
            "device": stand.token(device),
            "service": stand.bearer("billing", "service"),
            "operator": stand.bearer("olga", "operator"),
        }.items()
    }
    async with httpx.AsyncClient(base_url=url, timeout=_DEADLINE_S, trust_env=False, verify=False) as client:

        async def ask(who: str, method: str, target: str, **more: Any) -> Any:
            began = time.perf_counter()
            load.requests += 1
            try:
                answer = await client.request(method, target, headers=bearers[who], **more)
            except httpx.HTTPError as error:
                load.failures[type(error).__name__] += 1
                return None
            load.latency.add((time.perf_counter() - began) * 1000)
            if not answer.is_success:
                load.failures[f"{method} {target.partition('?')[0].rpartition('/')[2]} {answer.status_code}"] += 1
                return None
            return answer.json()

        position: str | None = None
        for turn in count():
            if load.over:
                return
            wanted = f"{number}-{turn}"
            event = {"device_id": device, "type": "LoadTest", "id": wanted, "data": {"turn": turn}}
            if await ask("service", "POST", "/api/v1/events", json={"events": [event]}) is not None:
                load.published += 1
            page = await ask("device", "GET", f"{path}/events" + (f"?after={position}" if position else ""))
            if page is not None:
                came = [one["event"]["id"] for one in page["events"]]
                if came != [wanted]:
                    load.wrong.append(f"{device}: {came} instead of {wanted}")
                position = page["position"]
                await ask("device", "POST", f"{path}/acks", json={"position": position})
            await ask("operator", "GET", "/api/v1/jobs?limit=10")


async def roll(
    stand: Stand, *, instances: int, rounds: int, clients: int, steady_s: float, say: Say, **settings: str
) -> dict[str, Any]:
    """Run and judge."""
    await stand.make_devices([f"rolling-{number}" for number in range(clients)])
    stops: list[dict[str, Any]] = []
    phases: dict[str, dict[str, float]] = {}
    load = Load()
    with ExitStack() as stack:
        running = [Instance(stand, number, **settings) for number in range(1, instances + 1)]
        for one in running:
            stack.callback(one.close)
            one.start()
        async with Balancer([one.port for one in running]) as balancer:
            for one in running:
                await balancer.until(one.port, ready=True)
            say(f"{instances} instances are ready, {clients} clients begin")
            tasks = [asyncio.create_task(_client(stand, balancer.url, number, load)) for number in range(clients)]
            await asyncio.sleep(steady_s)
            phases["steady"], load.latency = load.latency.summary(), Latencies()
            for turn in range(rounds):
                for one in running:
                    stops.append(await one.stop())
                    say(f"round {turn + 1}: one ended with {stops[-1]['status']} after {stops[-1]['seconds']} s")
                    await balancer.until(one.port, ready=False)
                    one.start()
                    await balancer.until(one.port, ready=True)
            phases["rolling"] = load.latency.summary()
            await asyncio.sleep(min(steady_s, 1.0))
            load.over = True
            await asyncio.gather(*tasks)
            taken = list(balancer.taken.values())
    recorded = (await stand.query("SELECT count(*) FROM events"))[0][0]
    in_order = all(one["status"] == 0 and one["seconds"] <= STOP_MAX_S for one in stops)
    return {
        "passed": not load.failures and not load.wrong and in_order and recorded == load.published > 0,
        "requests": load.requests,
        "failures": dict(load.failures),
        "wrong": load.wrong[:20],
        "published": load.published,
        "recorded": recorded,
        "stops": stops,
        "connections_taken": taken,
        "phases": phases,
    }


def main() -> int:
    """Roll, print, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.api_rolling", description=__doc__)
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--steady", type=float, default=5.0, help="seconds of quiet before (default 5)")
    parser.add_argument("--workers", type=int, default=1, help="FLEETWIRE_API_WORKERS of each instance")
    options = parser.parse_args()
    console = Console()
    with running_stand() as stand:
        result = uvloop.run(
            roll(
                stand,
                instances=options.instances,
                rounds=options.rounds,
                clients=options.clients,
                steady_s=options.steady,
                say=console.print,
                FLEETWIRE_API_WORKERS=str(options.workers),
                FLEETWIRE_DB_POOL_MAX="20",
            )
        )
    for name, latency in result["phases"].items():
        console.print(
            f"{name}: {latency['count']:.0f} requests, p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms"
        )
    console.print(
        f"{result['requests']} requests, {sum(result['failures'].values())} failed {result['failures'] or ''}, "
        f"{result['published']} events published and {result['recorded']} recorded, {len(result['wrong'])} wrong pages"
    )
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"api-rolling-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(result) + "\n")
    console.print(f"{'[green]passed' if result['passed'] else '[red]FAILED'}[/], saved to {file}", soft_wrap=True)
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
