"""One run of the driver: devices connected, events published at a rate by REST, the last one awaited, all of it judged.

The devices are made for the run, so what they are shown is exactly what it published, or something is wrong. However a
run ends, its figures say how far it came.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import httpx

from loadtests.driver.fleet import Fleet, FleetOptions
from loadtests.driver.history import Verdict
from loadtests.driver.latency import Latencies
from loadtests.driver.publications import Publications, PublishRefused, read_answer
from loadtests.process import cpu_seconds
from shared.tokens import KeyRing

__all__ = ["Figures", "Load", "Show", "Target", "drive", "post_batch"]

PUBLISH_DEADLINE_S: Final = 60.0
REQUEST_DEADLINE_S: Final = 10.0
TOKEN_LIFETIME_S: Final = 24 * 3600.0
QUIET_S: Final = 0.5  # after the last event, so that one shown twice is seen
_PORTS_OF_AN_ADDRESS: Final = 20_000
_STEP_S: Final = 0.005

Show = Callable[[str, float, float], None]


class _Failed(RuntimeError):
    """The run came to nothing; the message says why."""


@dataclass(frozen=True)
class Target:
    """Where to connect and publish, and the ring that signs the tokens for it."""

    api: str
    hubs: Sequence[str]
    keys: KeyRing

    def token(self, subject: str, scope: str) -> str:
        """A bearer token."""
        return self.keys.mint(subject=subject, scopes=frozenset({scope}), now=time.time(), lifetime_s=TOKEN_LIFETIME_S)


@dataclass(frozen=True)
class Load:
    """How much, and how long each part may take, in seconds. `rate` is events per second over all devices."""

    devices: int
    rate: float
    seconds: float
    settle_s: float = 30.0
    connect_s: float = 120.0


@dataclass
class Figures:
    """What is known of a run when it ends."""

    verdict: Verdict
    failure: str | None
    delivered: Latencies
    answered: Latencies
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether something was published, and all of it shown once and in order."""
        return self.failure is None and self.verdict.recorded > 0 and self.verdict.passed

    def lines(self) -> list[str]:
        """For people."""
        facts = self.facts
        rate = f"{facts.get('published_per_s', 0)}/s of {facts['rate']:g}/s wanted"
        lines = [
            f"{facts['devices']:,} devices on {facts['hubs']} hub(s): {self.verdict}",
            f"delivered {self.delivered}",
            f"published {self.answered}; {rate}, at most {facts['publish_late_s'] * 1000:.0f} ms late",
        ]
        return lines if self.failure is None else [*lines, self.failure]

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "passed": self.passed,
            "failure": self.failure,
            "verdict": self.verdict.__dict__,
            "delivered": self.delivered.summary(),
            "publish_answered": self.answered.summary(),
            **self.facts,
        }


async def drive(target: Target, load: Load, show: Show) -> Figures:
    """Run once. `show` is told how far it is: what, how many, of how many."""
    run = f"driver-{secrets.token_hex(3)}"
    names = [f"{run}-{number}" for number in range(load.devices)]
    tokens = {name: target.token(name, "device") for name in names}
    urls = {name: f"{target.hubs[n % len(target.hubs)].rstrip('/')}/v1/socket" for n, name in enumerate(names)}
    options = FleetOptions(source_addresses=1 + load.devices // _PORTS_OF_AN_ADDRESS)
    fleet = Fleet(names, lambda name: (urls[name], tokens[name]), options, Random(run))
    publications = Publications(fleet.history, run=run, rate=load.rate)
    answered, failure, cpu = Latencies(), None, cpu_seconds()
    facts: dict[str, Any] = {"devices": load.devices, "hubs": len(target.hubs), "rate": load.rate}
    try:
        facts["connect_s"] = await _connect(fleet, load, show)
        facts["published_per_s"] = await _publish(target, names, publications, answered, load.seconds, show)
        await _until(
            fleet,
            lambda: fleet.totals.events >= publications.recorded,
            load.settle_s,
            lambda: show("events shown", fleet.totals.events, publications.recorded),
        )
        await asyncio.sleep(QUIET_S)
    except (_Failed, PublishRefused) as failed:
        failure = str(failed)
    finally:
        await fleet.stop()
    totals = fleet.totals
    facts |= {
        "publish_late_s": round(publications.late_s, 3),
        "publish_requests_repeated": publications.repeated_requests,
        "acks": totals.acks,
        "gaps": totals.gaps,
        "resets": totals.resets,
        "closes": dict(totals.closes),
        "refusals": dict(totals.refusals),
        "driver_cpu_s": round(cpu_seconds() - cpu, 2),
    }
    return Figures(fleet.history.judge(), failure, fleet.latencies, answered, facts)


async def _connect(fleet: Fleet, load: Load, show: Show) -> float:
    begun, totals = time.monotonic(), fleet.totals
    fleet.start_all()
    await _until(
        fleet,
        lambda: totals.welcomed == load.devices,
        load.connect_s,
        lambda: show("devices connected", totals.welcomed, load.devices),
    )
    if totals.welcomed < load.devices:
        raise _Failed(_not_connected(fleet, load.devices))
    return round(time.monotonic() - begun, 3)


def _not_connected(fleet: Fleet, wanted: int) -> str:
    totals = fleet.totals
    said = f"only {totals.welcomed} of {wanted} devices were welcomed"
    if refusals := ", ".join(f"HTTP {status} {count} times" for status, count in sorted(totals.refusals.items())):
        said += f"; refused: {refusals}"
    if closes := ", ".join(f"{code} {count} times" for code, count in sorted(totals.closes.items())):
        said += f"; closed: {closes}"
    if totals.refusals[503]:
        said += ". A hub takes FLEETWIRE_HUB_CAPACITY devices: raise it where Fleetwire is started, or use --own"
    return said


async def _publish(
    target: Target, names: Sequence[str], publications: Publications, answered: Latencies, seconds: float, show: Show
) -> float:
    """Returns how many were recorded per second."""
    headers = {"Authorization": f"Bearer {target.token('load-driver', 'service')}"}
    begun = now = time.monotonic()
    async with httpx.AsyncClient(
        base_url=target.api, timeout=REQUEST_DEADLINE_S, headers=headers, trust_env=False
    ) as client:
        while now - begun < seconds:
            batch = publications.due(names, now=now, sent_ns=time.monotonic_ns())
            if batch:
                asked = time.monotonic()
                publications.answered(batch, await post_batch(client, batch, publications))
                answered.add((time.monotonic() - asked) * 1000)
            else:
                await asyncio.sleep(_STEP_S)
            now = time.monotonic()
            show("publishing", min(now - begun, seconds), seconds)
    return round(publications.recorded / (now - begun), 1)


async def post_batch(
    client: httpx.AsyncClient, batch: Sequence[dict[str, Any]], publications: Publications
) -> list[dict[str, Any]]:
    """One batch, repeated under the same ids while the API cannot say what became of it. Raises PublishRefused."""
    end = time.monotonic() + PUBLISH_DEADLINE_S
    while True:
        try:
            answer = await client.post("/api/v1/events", json={"events": batch})
            if (results := read_answer(answer.status_code, answer.text)) is not None:
                return results
            trouble = f"HTTP {answer.status_code}: {answer.text[:300]}"
        except httpx.HTTPError as error:
            trouble = repr(error)
        if time.monotonic() > end:
            raise PublishRefused(f"nothing could be published for {PUBLISH_DEADLINE_S:.0f} s: {trouble}")
        publications.repeated_requests += 1
        await asyncio.sleep(0.1)


async def _until(fleet: Fleet, condition: Callable[[], bool], deadline_s: float, show: Callable[[], None]) -> None:
    """Until it holds or the time is over, showing how far it is."""
    end = time.monotonic() + deadline_s
    while not await fleet.until(condition, min(0.2, max(0.0, end - time.monotonic()))) and time.monotonic() < end:
        show()
    show()
