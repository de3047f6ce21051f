"""`fleetwire hubs …`: how the hubs stand, who would go where, and the moves that operators begin, pause and stop."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.commands.hub_fleet import HubAway, HubFleet, Moving, open_hub_fleet
from infra.commands.roll import roll
from shared.settings import load
from shared.store.hubs import HubRow

__all__ = ["command", "ls", "move", "plan", "roll_all"]

LOOK_EVERY_S: Final = 0.5


def _run(environ: Mapping[str, str], work: Callable[[HubFleet], Awaitable[int]]) -> int:
    settings = load(CommandSettings, environ)

    async def run() -> int:
        async with open_hub_fleet(settings) as fleet:
            return await work(fleet)

    return asyncio.run(run())


def ls(environ: Mapping[str, str], *, as_json: bool) -> int:
    """A table of the hubs; 1 when one cannot be asked."""

    async def work(fleet: HubFleet) -> int:
        states: dict[str, Mapping[str, Any] | str] = {}
        rows = await fleet.chosen([])
        for row in rows:
            try:
                states[row.name] = await fleet.state(row)
            except HubAway as away:
                states[row.name] = str(away)
        if as_json:
            print(json.dumps(states))
        else:
            Console().print(_listing(rows, states))
        return 1 if any(isinstance(state, str) for state in states.values()) else 0

    return _run(environ, work)


def _listing(rows: Sequence[HubRow], states: Mapping[str, Mapping[str, Any] | str]) -> Table:
    table = Table("hub", "state", "devices", "of", "own", "others'", "sees", "moving")
    for row in rows:
        state = states[row.name]
        if isinstance(state, str):
            table.add_row(row.name, state, str(row.connections), str(row.capacity))
            continue
        sees = f"{len(state['view'])} hubs{'' if state['view_settled'] else ', changing'}"
        counts = (state["connections"], state["capacity"], state["own"], state["strangers"])
        stands = ", ".join(state["not_ready"]) or "ready"
        table.add_row(row.name, stands, *map(str, counts), sees, _moving(Moving(state)))
    return table


def _moving(moving: Moving) -> str:
    if moving.is_held:
        return "held: more than half of the hubs have gone at once"
    said = []
    if moving.is_paused:
        said.append("paused")
    if moving.left:
        said.append(f"{moving.left} left")
        if moving.eta_s is not None:
            said.append(f"{moving.eta_s:.0f} s")
    if moving.leaving:
        said.append(f"{moving.leaving} on their way")
    return ", ".join(said) or "nothing"


def plan(environ: Mapping[str, str], *, without: Sequence[str], plus: Sequence[str]) -> int:
    """How many devices a move would send where; nothing is done."""

    async def work(fleet: HubFleet) -> int:
        table = Table("from", "to", "devices", "")
        stay = moved = 0
        for row in await fleet.chosen([]):
            answer = await fleet.ask(row, "plan", {"without": list(without), "with": list(plus)})
            stay += answer["stay"]
            for target, count in sorted(answer["move"].items()):
                moved += count
                refused = answer["refused"].get(target)
                table.add_row(row.name, target or "nobody", str(count), f"{target} is {refused}" if refused else "")
        console = Console()
        if moved:
            console.print(table)
        console.print(f"{moved} of {moved + stay} devices would move, {stay} stay")
        return 0

    return _run(environ, work)


def move(environ: Mapping[str, str], names: Sequence[str], *, to: str | None, wait: bool) -> int:
    """Send devices to the hubs they belong to, and wait until they have gone."""

    async def work(fleet: HubFleet) -> int:
        planned = {}
        chosen = [row for row in await fleet.chosen(names) if row.name != to]
        for row in chosen:
            planned[row.name] = (await fleet.ask(row, "move", {"to": to} if to else {}))["planned"]
        print(f"{sum(planned.values())} devices are to move")
        chosen = [row for row in chosen if planned[row.name]]
        return await _watch(fleet, chosen, planned) if wait else 0

    return _run(environ, work)


async def _watch(fleet: HubFleet, chosen: Sequence[HubRow], planned: Mapping[str, int]) -> int:
    skipped: Counter[str] = Counter()
    with _progress() as progress:
        tasks = {row.name: progress.add_task(row.name, total=planned[row.name], stage="") for row in chosen}
        waiting = list(chosen)
        while waiting:
            for row in tuple(waiting):
                moving = Moving(await fleet.state(row))
                done = planned[row.name] - moving.left
                progress.update(tasks[row.name], completed=done, stage="done" if moving.is_over else _moving(moving))
                if moving.is_over:
                    waiting.remove(row)
                    skipped.update(moving.skipped)
            await asyncio.sleep(LOOK_EVERY_S if waiting else 0)
    for why, count in skipped.items():
        print(f"{count} stayed: the hub they belong to is {why}")
    return 0


def command(environ: Mapping[str, str], what: str, names: Sequence[str]) -> int:
    """`pause`, `resume` or `abort` on these hubs, or all."""

    async def work(fleet: HubFleet) -> int:
        for row in await fleet.chosen(names):
            state = await fleet.ask(row, what, {})
            said = f"stopped, {state['stay']} stay where they are" if what == "abort" else _moving(Moving(state))
            print(f"{row.name} moves: {said}")
        return 0

    return _run(environ, work)


def roll_all(environ: Mapping[str, str], names: Sequence[str], *, timeout_s: float, as_json: bool) -> int:
    """Restart hubs one after another, each with its devices back before the next."""

    async def work(fleet: HubFleet) -> int:
        if len(await fleet.rows()) == 1:
            print("there is one hub only: its devices go by REST while it restarts")
        with _progress(hidden=as_json) as progress:
            tasks: dict[str, TaskID] = {}

            def show(hub: str, stage: str, done: int, of: int) -> None:
                if hub not in tasks:
                    tasks[hub] = progress.add_task(hub, stage=stage)
                progress.update(tasks[hub], completed=done, total=max(of, 1), stage=stage)

            try:
                rolled = await roll(fleet, names, timeout_s=timeout_s, show=show)
            except HubAway as away:
                raise CommandFailed(f"{away}; the roll stops here") from away
        if as_json:
            print(json.dumps([one._asdict() for one in rolled]))
        else:
            for one in rolled:
                print(
                    f"{one.name}: {one.devices} devices sent away in {one.drained_s} s, ready again after "
                    f"{one.back_s} s, devices back after {one.settled_s} s"
                )
        return 0

    return _run(environ, work)


def _progress(*, hidden: bool = False) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=hidden)
