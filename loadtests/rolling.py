"""A rolling restart of all hubs under load, then kill -9 of one: who is away how long, and whether anything is lost.

Devices are assigned by the API, as real ones are. `fleetwire hubs roll` does the restart; the supervisor of `fleetwire
up` starts again what has ended. Caught up after the kill means: every device is welcomed again, and all that had been
recorded by then was shown.
"""

import argparse
import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from loadtests.driver.assignment import Assignments
from loadtests.driver.fleet import Fleet, FleetOptions
from loadtests.driver.latency import Latencies
from loadtests.driver.publications import Publications
from loadtests.driver.run import QUIET_S, REQUEST_DEADLINE_S, post_batch
from loadtests.machine import Machine, running_machine
from loadtests.process import cpu_seconds

__all__ = ["main"]

RESULTS: Final = Path(__file__).parent / "results"
KILL_BACK_MAX_S: Final = 5.0
JITTER_S: Final = 2.0  # what hubs tell devices to spread their return over
ROLL_DEADLINE_S: Final = 900.0
_STEP_S: Final = 0.01

Say = Callable[[str], None]


@dataclass
class Phase:
    """What devices noticed while something was done to the hubs."""

    name: str
    seconds: float = 0.0
    latency: Latencies = field(default_factory=Latencies)
    moved: int = 0
    cut: int = 0  # sockets that ended otherwise than by a newer one of the same device
    away_most: int = 0  # devices without a socket at the same time
    cpu_s: dict[str, float] = field(default_factory=dict)  # of processes that lived through it
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {**self.__dict__, "latency": self.latency.summary()}


class Run:
    """Devices on a machine, events flowing to them; `phase()` around what is done meanwhile."""

    def __init__(self, machine: Machine, devices: int, rate: float, say: Say) -> None:
        self.machine = machine
        self.phases: list[Phase] = []
        self._say = say
        run = f"rolling-{secrets.token_hex(3)}"
        self._names = [f"{run}-{number}" for number in range(devices)]
        tokens = {name: machine.token(name, "device") for name in self._names}
        self._assignments = Assignments(machine.api, tokens.__getitem__)
        self.fleet = Fleet(
            self._names,
            lambda name: ("", tokens[name]),
            FleetOptions(jitter_s=JITTER_S),
            Random(run),
            assign=self._assignments.ask,
        )
        self.publications = Publications(self.fleet.history, run=run, rate=rate)
        self._enough = False

    async def connect(self, deadline_s: float) -> None:
        """All of them. Raises RuntimeError."""
        self.fleet.start_all()
        if not await self.fleet.all_welcomed(deadline_s):
            raise RuntimeError(f"only {self.fleet.totals.welcomed} of {len(self._names)} came: {self.fleet.totals}")

    async def publish(self) -> None:
        """Until it is enough. A request is never given up half-way: what it recorded would not be known."""
        headers = {"Authorization": f"Bearer {self.machine.token('rolling', 'service')}"}
        async with httpx.AsyncClient(
            base_url=self.machine.api, timeout=REQUEST_DEADLINE_S, headers=headers, trust_env=False
        ) as client:
            while not self._enough:
                batch = self.publications.due(self._names, now=time.monotonic(), sent_ns=time.monotonic_ns())
                if batch:
                    self.publications.answered(batch, await post_batch(client, batch, self.publications))
                else:
                    await asyncio.sleep(_STEP_S)

    def enough(self) -> None:
        """Publish nothing more."""
        self._enough = True

    @asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[Phase]:
        """Measure what devices notice meanwhile."""
        self._say(name)
        totals, phase = self.fleet.totals, Phase(name)
        self.fleet.latencies = phase.latency
        pids = {name: pid for name, pid in self.machine.pids().items() if name in ("api", "postgres", "valkey")}
        used = {name: cpu_seconds(pid) for name, pid in pids.items()} | {"driver": cpu_seconds()}
        began, moved, closes = time.monotonic(), totals.moves_done, totals.closes.copy()
        watching = asyncio.create_task(self._watch(phase))
        try:
            yield phase
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        phase.seconds = round(time.monotonic() - began, 2)
        pids["driver"] = os.getpid()
        phase.cpu_s = {name: round(cpu_seconds(pids[name]) - before, 2) for name, before in used.items()}
        phase.moved = totals.moves_done - moved
        phase.cut = sum(count for code, count in (totals.closes - closes).items() if code != 4002)
        self.phases.append(phase)

    async def _watch(self, phase: Phase) -> None:
        while True:
            phase.away_most = max(phase.away_most, len(self._names) - self.fleet.totals.welcomed)
            await asyncio.sleep(_STEP_S)

    async def caught_up(self, deadline_s: float) -> float:
        """Until all are connected and were shown what there was by then. Returns the seconds. Raises RuntimeError."""
        began, fleet = time.monotonic(), self.fleet
        here = await fleet.all_welcomed(deadline_s)
        recorded = self.publications.recorded
        if not here or not await fleet.until(lambda: fleet.totals.events >= recorded, deadline_s):
            raise RuntimeError(f"not caught up within {deadline_s} s: {fleet.totals}")
        return round(time.monotonic() - began, 2)

    async def settled(self, deadline_s: float) -> None:
        """Until no hub has anybody to send on, and every hub has acted on what all see. Raises RuntimeError."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            answer = await command(self.machine, "hubs", "ls", "--json")
            states = json.loads(answer) if answer else {}
            calm = [
                not isinstance(one, str)
                and one["settled_view"] == one["view"]
                and not one["moving"]["left"]
                and not one["moving"]["leaving"]
                for one in states.values()
            ]
            if len(calm) == len(self.machine.hubs) and all(calm):
                return
            await asyncio.sleep(1.0)
        raise RuntimeError(f"the hubs did not settle within {deadline_s:.0f} s")

    async def close(self) -> None:
        """The devices leave."""
        await self.fleet.stop()
        await self._assignments.close()


async def command(machine: Machine, *arguments: str) -> str:
    """What a `fleetwire` command of this machine printed; "" when it failed, which it has said itself."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("fleetwire")),
        *arguments,
        env={name: value for name, value in os.environ.items() if not name.startswith("FLEETWIRE_")}
        | {"FLEETWIRE_HOME": str(machine.folder / "home")},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(ROLL_DEADLINE_S):
        printed, _ = await process.communicate()
    return printed.decode() if process.returncode == 0 else ""


async def rolling(
    machine: Machine, *, devices: int, rate: float, steady_s: float, say: Say, roll: bool = True
) -> dict[str, Any]:
    """Run and judge."""
    run = Run(machine, devices, rate, say)
    say(f"{devices} devices connect")
    await run.connect(120)
    publishing = asyncio.create_task(run.publish())
    try:
        await run.settled(120)
        async with run.phase("steady"):
            await asyncio.sleep(steady_s)
        if roll:
            async with run.phase("rolling restart") as phase:
                rolled = await command(machine, "hubs", "roll", "--json")
                if not rolled:
                    raise RuntimeError("the roll failed")
                phase.facts["hubs"] = json.loads(rolled)
                phase.facts["caught_up_s"] = await run.caught_up(60)
        async with run.phase("kill -9 of one") as phase:
            victim = "hub-2" if len(machine.hubs) > 1 else "hub-1"
            phase.facts["killed"] = victim
            phase.facts["devices"] = sum(device.hub == victim for device in run.fleet.devices)
            machine.kill(victim)
            # The kernel tells them in a moment; until then all of them seem to be there.
            await run.fleet.until(lambda: run.fleet.totals.welcomed < devices, 5)
            phase.facts["back_s"] = await run.caught_up(60)
        async with run.phase("its devices go home"):
            await run.settled(180)
            await run.caught_up(60)
    finally:
        run.enough()
        await publishing
    await run.fleet.until(lambda: run.fleet.totals.events >= run.publications.recorded, 30)
    await asyncio.sleep(QUIET_S)
    await run.close()
    verdict = run.fleet.history.judge()
    (back_s,) = [phase.facts["back_s"] for phase in run.phases if "back_s" in phase.facts]
    return {
        "passed": verdict.passed and verdict.recorded > 0 and back_s <= KILL_BACK_MAX_S,
        "devices": devices,
        "hubs": len(machine.hubs),
        "rate": rate,
        "verdict": verdict.__dict__,
        "said": str(verdict),
        "gaps": run.fleet.totals.gaps,
        "back_after_kill_s": back_s,
        "closes": dict(run.fleet.totals.closes),
        "refusals": dict(run.fleet.totals.refusals),
        "phases": [phase.as_json() for phase in run.phases],
    }


def table(result: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title=f"{result['devices']} devices on {result['hubs']} hubs, {result['rate']:g} events/s")
    for name in ("phase", "seconds", "p50 ms", "p99 ms", "max ms", "moved", "cut", "away at most"):
        shown.add_column(name, justify="left" if name == "phase" else "right")
    for phase in result["phases"]:
        latency = phase["latency"]
        shown.add_row(
            phase["name"],
            f"{phase['seconds']:.1f}",
            *(f"{latency[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
            *(str(phase[name]) for name in ("moved", "cut", "away_most")),
        )
    return shown


def main() -> int:
    """Roll, kill, print, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.rolling", description=__doc__)
    parser.add_argument("--hubs", type=int, default=3)
    parser.add_argument("--devices", type=int, default=500, help="for each hub (default 500)")
    parser.add_argument("--rate", type=float, default=200, help="events per second over all devices (default 200)")
    parser.add_argument("--steady", type=float, default=10, help="seconds of quiet before, for comparison (default 10)")
    parser.add_argument("--no-roll", action="store_true", help="only the kill")
    options = parser.parse_args()
    console = Console()
    devices = options.devices * options.hubs
    with running_machine(hubs=options.hubs, FLEETWIRE_HUB_CAPACITY=str(devices)) as machine:
        result = uvloop.run(
            rolling(
                machine,
                devices=devices,
                rate=options.rate,
                steady_s=options.steady,
                say=console.print,
                roll=not options.no_roll,
            )
        )
    console.print(table(result))
    for hub in [hub for phase in result["phases"] for hub in phase["facts"].get("hubs", ())]:
        console.print(f"{hub['name']}: drained in {hub['drained_s']} s, back in {hub['back_s']} s")
    console.print(f"{result['said']}; all back and caught up {result['back_after_kill_s']} s after the kill")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"rolling-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(result) + "\n")
    console.print(f"{'[green]passed' if result['passed'] else '[red]FAILED'}[/], saved to {file}", soft_wrap=True)
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
