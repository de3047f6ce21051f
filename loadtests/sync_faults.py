"""Sync while everything is killed and stopped: two API processes, two hubs, Postgres; each operation applied once.

Devices send batches, many with repetitions and conflicts, by REST and by socket; links are cut under them. Those that
have their inspections for themselves must be told exactly what a plain model says; where a device and two operators
change the same ones, the model must get to the state in Postgres in the order that the versions tell.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

import asyncpg
import uvloop
from rich.console import Console

from loadtests.chaos.faults import query
from loadtests.machine import Machine, running_machine
from loadtests.ports import free_port
from loadtests.sync_actors import TEMPLATE, VERBS, Actor, Plan, Sender, effect_of, in_order_of_versions, states
from loadtests.sync_model import Model

__all__ = ["a_batch", "differences", "main"]

RESULTS: Final = Path(__file__).parent / "results"
PATIENCE_S: Final = 120.0
SETTINGS: Final = {
    "FLEETWIRE_SYNC_KEYS_PER_DAY": "100000000",
    "FLEETWIRE_HUB_FLAPS_MAX": "0",
    "FLEETWIRE_HUB_ADDRESS_SOCKETS": "100000",
}
_ADD_TEMPLATE: Final = "INSERT INTO templates (template_id, name, version, body) VALUES ($1, 'Daily check', 1, '{}')"
# What is done, to whom, and for how long it is stopped; None kills it.
FAULTS: Final[Sequence[tuple[str, float | None]]] = (
    ("api", None), ("hub-1", None), ("hub-2", None), ("postgres", None),
    ("api", 3.0), ("api-2", 3.0), ("hub-1", 3.0), ("postgres", 3.0), ("postgres", 8.0),
)  # fmt: skip


def a_batch(rand: Random, entities: int) -> list[Plan]:
    """Some operations, mostly on inspections near each other."""
    first = rand.randrange(entities)
    return [
        Plan(
            verb=rand.choice((*VERBS, "create", "update", "update", "submit")),
            which=min(entities - 1, first + rand.randrange(4)),
            behind=rand.choice([0, 0, 0, 0, 0, 1]),
            answers={rand.choice("abc"): rand.choice([None, 1, 2, 3])},
            repeat=rand.choice([None] * 6 + [0, 1]),
        )
        for _ in range(rand.randrange(1, 20))
    ]


async def disturb_until(machine: Machine, end: float, rand: Random, console: Console) -> list[str]:
    """One fault after another. What was done."""
    done = []
    while time.monotonic() < end:
        await asyncio.sleep(rand.uniform(1, 3))
        name, stopped_s = rand.choice(FAULTS)
        what = f"{name} killed" if stopped_s is None else f"{name} stopped for {stopped_s:g} s"
        console.print(what)
        done.append(what)
        if stopped_s is None:
            await asyncio.to_thread(machine.kill, name)
            # Another fault waits until it is back, or nothing would be left to answer.
            await asyncio.to_thread(machine.pid, name)
            await asyncio.sleep(2)
        else:
            pid = await asyncio.to_thread(machine.pause, name)
            await asyncio.sleep(stopped_s)
            machine.resume(pid)
    return done


async def run(machine: Machine, apis: list[str], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Send under faults, then hold everything against the model."""
    rand = Random(options.seed)
    end = time.monotonic() + options.seconds
    hubs = [f"{url}/v1/socket" for url in machine.hubs]
    ring = machine.keys

    def token_of(kind: str, subject: str) -> str:
        return ring.mint(subject=subject, scopes=frozenset({kind}), now=time.time(), lifetime_s=86400)

    async def nothing_more() -> None:
        """Processes are what is disturbed here."""

    def an_actor(who: str, entities: list[str]) -> Actor:
        own = Random(rand.getrandbits(64))
        return Actor(who, entities, Sender(apis, hubs, token_of, nothing_more, own, patience_s=PATIENCE_S))

    def some_entities() -> list[str]:
        return [str(UUID(int=rand.getrandbits(128), version=4)) for _ in range(options.entities)]

    alone = [an_actor(f"device:alone-{number}", some_entities()) for number in range(options.devices)]
    groups = []
    for number in range(options.groups):
        entities = some_entities()
        names = (f"device:shared-{number}", f"operator:olga-{number}", f"operator:otto-{number}")
        groups.append([an_actor(name, entities) for name in names])

    async def work(actor: Actor) -> None:
        while time.monotonic() < end:
            await actor.send(a_batch(actor.sender.rand, options.entities))

    actors = [*alone, *(actor for group in groups for actor in group)]
    faults, *_ = await asyncio.gather(disturb_until(machine, end, rand, console), *(work(actor) for actor in actors))
    connection = await asyncpg.connect(machine.database_url)
    problems = await differences(connection, alone, groups)
    twice = await connection.fetchval("SELECT count(*) FROM sync_operations WHERE status = 'claimed'")
    await connection.close()
    if twice:
        problems.append(f"{twice} keys are claimed and nothing else")
    results = [result for actor in actors for _, found in actor.sent for result in found]
    return {
        "operations": len(results),
        "applied": sum(effect_of(one)[0] == "done" for one in results),
        "told_again": sum(one["status"] == "duplicate" for one in results),
        "conflicts": sum(one["status"] == "conflict" for one in results),
        "batches": sum(len(actor.sent) for actor in actors),
        "attempts": sum(actor.sender.attempts for actor in actors),
        "cut": sum(actor.sender.cut for actor in actors),
        "faults": faults,
        "problems": problems[:20],
    }


async def differences(
    connection: asyncpg.Connection, alone: Sequence[Actor], groups: Sequence[Sequence[Actor]]
) -> list[str]:
    """Where what was told or what Postgres holds is not what the model says."""
    problems = []
    for actor in alone:
        model = Model()
        for number, (operations, results) in enumerate(actor.sent):
            said = model.batch(actor.who, operations)
            told = [effect_of(one) for one in results]
            problems += [
                f"{actor.who}, batch {number}, operation {place}: told {mine}, the model says {its}"
                for place, (mine, its) in enumerate(zip(told, said, strict=True))
                if mine != its
            ]
        if await states(connection, actor.entities) != model.inspections:
            problems.append(f"{actor.who}: Postgres holds something else than the model")
    for group in groups:
        try:
            together = in_order_of_versions(group)
        except AssertionError as error:
            problems.append(f"{group[0].who}: the versions contradict each other: {error}")
            continue
        if await states(connection, group[0].entities) != together.inspections:
            problems.append(f"{group[0].who}: Postgres holds something else than the model")
    return problems


def main() -> int:
    """Run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--devices", type=int, default=16, help="that have their inspections for themselves")
    parser.add_argument("--groups", type=int, default=4, help="of a device and two operators that share theirs")
    parser.add_argument("--entities", type=int, default=60, help="inspections of each device")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    console = Console()
    with running_machine(hubs=2, keep=options.keep, **SETTINGS) as machine:
        query(machine, _ADD_TEMPLATE, TEMPLATE)
        port = free_port()
        second = {"FLEETWIRE_API_NAME": "api-2", "FLEETWIRE_API_PORT": str(port)}
        machine.add("api", "api", FLEETWIRE_OPS_PORT=str(free_port()), **second)
        found = uvloop.run(run(machine, [machine.api, f"http://127.0.0.1:{port}"], options, console))
    console.print_json(json.dumps(found))
    options.results.mkdir(exist_ok=True)
    file = options.results / f"sync-faults-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    passed = not found["problems"] and found["applied"] > 0
    console.print("[green]passed" if passed else "[red]FAILED", f"saved to {file}")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
