"""How often one may ask: a truck's 51 calls at once, ten thousand callers, and the same while Redis is stopped.

Two instances of the API share one Redis. Of 51 calls at once 50 must pass, and the one that is refused must succeed
when it comes again as told. Ten thousand callers must leave nothing in Redis and only so much in a process. With Redis
stopped the instances together must let through what one bucket would, and go back to Redis by themselves.
"""

import argparse
import asyncio
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import uvloop
from rich.console import Console
from rich.progress import Progress

from loadtests.machine import Machine, running_machine
from loadtests.ports import free_port
from loadtests.process import resident_bytes
from shared.bus.names import rate_bucket
from shared.bus.redis_client import LazyRedis
from shared.bus.token_buckets import TokenBuckets
from shared.rate_limits import Asked, Limit
from shared.tokens import KeyRing

__all__ = ["Burst", "Crowd", "Emptied", "burst", "crowd", "emptied"]

RESULTS: Final = Path(__file__).parent / "results"
LOCAL_MAX: Final = 10_000
GROWTH_MAX_MIB: Final = 32.0
REDIS_MAX_MIB: Final = 4.0
_TRUCK: Final = 50
_TOKEN_S: Final = 60 / _TRUCK
_AT_ONCE: Final = 32


@dataclass(frozen=True)
class Burst:
    """Calls of one caller at once. `extra` may have passed while they came: a token comes every 1.2 s."""

    calls: int
    passed: int
    seconds: float
    retry_after_s: int
    then: int

    @property
    def held(self) -> bool:
        extra = math.ceil(self.seconds / _TOKEN_S)
        return _TRUCK <= self.passed <= _TRUCK + extra and self.then == 200


@dataclass(frozen=True)
class Crowd:
    """Many callers, one call each."""

    callers: int
    refused: int
    calls_per_s: float
    redis_mib: float
    redis_keys: int
    redis_keys_after: int
    process_mib: float
    remembered: int

    @property
    def held(self) -> bool:
        bounded = self.process_mib <= GROWTH_MAX_MIB and self.remembered <= LOCAL_MAX
        return bounded and not self.refused and not self.redis_keys_after


@dataclass(frozen=True)
class Emptied:
    """Buckets of so many callers that are all empty at once: the most that Redis ever holds for them."""

    callers: int
    redis_mib: float
    redis_keys: int
    gone_in_s: float

    @property
    def held(self) -> bool:
        return self.redis_keys == self.callers and self.redis_mib <= REDIS_MAX_MIB and self.gone_in_s <= 60


class _Api:
    """One instance, asked as somebody."""

    def __init__(self, url: str, pid: int, ops_port: int) -> None:
        self.pid = pid
        self.ops = f"http://127.0.0.1:{ops_port}"
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self.client = httpx.AsyncClient(base_url=url, timeout=30, limits=limits, trust_env=False)

    async def ask(self, keys: KeyRing, device_id: str, device_class: str = "truck") -> httpx.Response:
        token = keys.mint(
            subject=device_id,
            scopes=frozenset({"device"}),
            now=time.time(),
            lifetime_s=3600,
            device_class=device_class,
        )
        path = f"/api/v1/devices/{device_id}/responses"
        return await self.client.get(path, headers={"Authorization": f"Bearer {token}"})

    async def metric(self, name: str) -> float:
        text = (await self.client.get(f"{self.ops}/metrics")).text
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))

    async def until(self, name: str, value: float, deadline_s: float = 30.0) -> float:
        """Seconds until the metric has this value."""
        began = time.monotonic()
        while await self.metric(name) != value:
            if time.monotonic() - began > deadline_s:
                raise RuntimeError(f"{name} of {self.ops} is not {value:g} after {deadline_s:g} s")
            await asyncio.sleep(0.05)
        return time.monotonic() - began


async def burst(apis: Sequence[_Api], keys: KeyRing, device_id: str, calls: int) -> Burst:
    """So many calls at once, spread over the instances, and one more when the first that was refused may come again."""
    # Connections are there before the first call: what is counted is calls, not handshakes.
    await asyncio.gather(*(api.client.get("/health") for api in apis for _ in range(math.ceil(calls / len(apis)))))
    began = time.monotonic()
    answers = await asyncio.gather(*(apis[n % len(apis)].ask(keys, device_id) for n in range(calls)))
    seconds = time.monotonic() - began
    refused = [(int(answer.headers["retry-after"]), n) for n, answer in enumerate(answers) if answer.status_code == 429]
    passed = sum(answer.status_code == 200 for answer in answers)
    if not refused:
        return Burst(calls, passed, round(seconds, 2), 0, 0)
    after, number = min(refused)
    await asyncio.sleep(after)
    then = await apis[number % len(apis)].ask(keys, device_id)
    return Burst(calls, passed, round(seconds, 2), after, then.status_code)


async def crowd(
    machine: Machine, apis: Sequence[_Api], keys: KeyRing, prefix: str, callers: int, progress: Progress, *, redis: bool
) -> Crowd:
    """One call of each of so many callers. `redis` says whether that is there to be asked."""
    task = progress.add_task(f"{callers} callers, Redis {'running' if redis else 'stopped'}", total=callers)
    before, used = _resident(apis), _redis_mib(machine) if redis else 0.0
    most_keys, most_used, refused, next_number = 0, used, 0, iter(range(callers))
    began = time.monotonic()

    async def some() -> None:
        nonlocal refused
        for number in next_number:
            answer = await apis[number % len(apis)].ask(keys, f"{prefix}-{number}")
            if answer.status_code == 429:
                refused += 1
            elif answer.status_code != 200:
                raise RuntimeError(f"HTTP {answer.status_code}: {answer.text[:300]}")
            progress.advance(task)

    asking = [asyncio.create_task(some()) for _ in range(_AT_ONCE)]
    while not all(one.done() for one in asking):
        await asyncio.wait(asking, timeout=0.5)
        if redis:
            most_keys, most_used = max(most_keys, _redis_keys(machine, prefix)), max(most_used, _redis_mib(machine))
    await asyncio.gather(*asking)
    seconds = time.monotonic() - began
    remembered = max([await api.metric("fleetwire_api_rate_principals") for api in apis])
    keys_after = 0
    if redis:
        await asyncio.sleep(_TOKEN_S + 0.5)
        keys_after = _redis_keys(machine, prefix)
    grown = max(after - at_first for after, at_first in zip(_resident(apis), before, strict=True))
    return Crowd(
        callers,
        refused,
        round(callers / seconds, 1),
        round(most_used - used, 2),
        most_keys,
        keys_after,
        round(grown, 1),
        int(remembered),
    )


async def emptied(machine: Machine, callers: int) -> Emptied:
    """Empty so many buckets, past the API, which would take minutes for it."""
    limit, used = Limit("truck", _TRUCK, 1 / _TOKEN_S), _redis_mib(machine)
    redis = LazyRedis(machine.redis_url, deadline_s=5)
    buckets = TokenBuckets(redis, deadline_s=5)
    for first in range(0, callers, 500):
        some = range(first, min(callers, first + 500))
        await buckets.take([Asked(f"device:three-{number}", limit, _TRUCK) for number in some], None)
    with machine.redis() as client:
        last_ms: int = client.pttl(rate_bucket(f"device:three-{callers - 1}"))
    found = Emptied(callers, round(_redis_mib(machine) - used, 2), _redis_keys(machine, "three"), last_ms / 1000)
    await redis.aclose()
    return found


def _resident(apis: Sequence[_Api]) -> list[float]:
    return [resident_bytes(api.pid) / 2**20 for api in apis]


def _redis_mib(machine: Machine) -> float:
    with machine.redis() as client:
        used: int = client.info("memory")["used_memory"]
    return used / 2**20


def _redis_keys(machine: Machine, prefix: str) -> int:
    with machine.redis() as client:
        return sum(1 for _ in client.scan_iter(f"fw:rate:device:{prefix}-*", count=5000))


async def run(machine: Machine, console: Console, progress: Progress, callers: int) -> tuple[dict[str, Any], bool]:
    """All of it. The figures, and whether they held."""
    port, ops_port = free_port(), free_port()
    # Looked up before there is another process of that name.
    keys, first = machine.keys, _Api(machine.api, machine.pid("api"), machine.ops_port("api"))
    extra = machine.add("api", "api", FLEETWIRE_API_PORT=str(port), FLEETWIRE_OPS_PORT=str(ops_port))
    apis = [first, _Api(f"http://127.0.0.1:{port}", extra.pid, ops_port)]
    outcomes: dict[str, Burst | Crowd | Emptied] = {}
    figures: dict[str, Any] = {}

    def take(name: str, outcome: Burst | Crowd | Emptied) -> None:
        outcomes[name] = outcome
        console.print(f"{'[green]held' if outcome.held else '[red]NOT held'}[/] {name}: {outcome}")

    try:
        await _ready(apis)
        for api in apis:
            await api.until("fleetwire_api_instances", 2.0)
        for number in range(3):
            take(f"51 calls at once, {number + 1}", await burst(apis[:1], keys, f"truck-{number}", 51))
        take("60 calls at once at two instances", await burst(apis, keys, "truck-8", 60))
        take(f"{callers} callers", await crowd(machine, apis, keys, "one", callers, progress, redis=True))
        take(f"{callers} emptied buckets", await emptied(machine, callers))
        stopped = machine.pause("valkey")
        # The first calls find out that Redis does not answer.
        await asyncio.gather(*(api.ask(keys, "scout") for api in apis))
        for api in apis:
            await api.until("fleetwire_api_rate_local", 1.0)
        take("60 calls at once at two instances, Redis stopped", await burst(apis, keys, "truck-9", 60))
        more = callers + callers // 10
        take(
            f"{more} callers at one instance, Redis stopped",
            await crowd(machine, apis[:1], keys, "two", more, progress, redis=False),
        )
        machine.resume(stopped)
        back = [await api.until("fleetwire_api_rate_local", 0.0) for api in apis]
        figures["back_in_redis_s"] = round(max(back), 2)
        take("60 calls at once, Redis back", await burst(apis, keys, "truck-10", 60))
    finally:
        for api in apis:
            await api.client.aclose()
    held = all(outcome.held for outcome in outcomes.values())
    return figures | {name: asdict(outcome) | {"held": outcome.held} for name, outcome in outcomes.items()}, held


async def _ready(apis: Sequence[_Api]) -> None:
    async with asyncio.timeout(60):
        for api in apis:
            while True:
                try:
                    if (await api.client.get("/ready")).is_success:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)


def main() -> int:
    """Run, show, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.limits", description=__doc__)
    parser.add_argument("--callers", type=int, default=10_000)
    options = parser.parse_args()
    console = Console()
    with (
        running_machine(
            hubs=1,
            FLEETWIRE_API_RATE_LIMITS="on",
            FLEETWIRE_API_RATE_ALL_PER_S="0",  # what is looked at are the callers' own limits
            FLEETWIRE_API_INSTANCE_S="1",
            FLEETWIRE_DB_POOL_MAX="20",
        ) as machine,
        Progress(console=console) as progress,
    ):
        figures, held = uvloop.run(run(machine, console, progress, options.callers))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"limits-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(figures, indent=1) + "\n")
    console.print(f"{'[green]passed' if held else '[red]FAILED'}[/], saved to {file}")
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
