"""A rolling restart: one hub after another is drained, started again by whoever keeps it running, and gets its devices
back before the next one's turn.

It starts nothing itself: `fleetwire up`, a container runtime or systemd do, since they start whatever has ended. It
stops at the first hub that does not come back, so that at most one is missing.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from infra.commands.errors import CommandFailed
from infra.commands.hub_fleet import HubAway, HubFleet, Moving
from infra.shown_commands import shown
from shared.clock import monotonic
from shared.store.hubs import HubRow

__all__ = ["Rolled", "roll"]

LOOK_EVERY_S: Final = 0.25

Show = Callable[[str, str, int, int], None]


class Rolled(NamedTuple):
    """One hub's restart, in seconds."""

    name: str
    devices: int
    drained_s: float
    back_s: float
    settled_s: float


async def roll(fleet: HubFleet, names: Sequence[str], *, timeout_s: float, show: Show) -> list[Rolled]:
    """Restart these hubs, or all. `show(hub, stage, done, of)` is told how far it is.

    Each stage of each hub has `timeout_s`. Raises CommandFailed.
    """
    order = await fleet.chosen(names)
    rolled = []
    for hub in order:
        await _all_well(fleet)
        rolled.append(await _restart(fleet, hub.name, timeout_s, show))
    return rolled


async def _all_well(fleet: HubFleet) -> None:
    """None is taken out while another one is away or sends devices on."""
    for row in await fleet.chosen([]):
        state = await fleet.state(row)
        moving = Moving(state)
        if state["not_ready"]:
            raise CommandFailed(f"{row.name} is not ready ({', '.join(state['not_ready'])}): mend that first")
        if moving.is_paused:
            raise CommandFailed(f"the moves of {row.name} are paused: `{shown('hubs resume')}` first")
        if moving.left:
            raise CommandFailed(f"{row.name} has {moving.left} devices to send on: wait, or `{shown('hubs abort')}`")


async def _restart(fleet: HubFleet, name: str, timeout_s: float, show: Show) -> Rolled:
    began = monotonic()
    (hub,) = await fleet.chosen([name])
    devices: int = (await fleet.state(hub))["connections"]
    show(name, "draining", 0, devices)
    await fleet.ask(hub, "drain", {})
    await _until_gone(fleet, hub, devices, timeout_s, show)
    drained = monotonic()
    show(name, "restarting", 0, 1)
    again = await _until_back(fleet, hub, timeout_s)
    back = monotonic()
    await _until_settled(fleet, again, devices, timeout_s, show)
    show(name, "done", 1, 1)
    return Rolled(name, devices, round(drained - began, 1), round(back - drained, 1), round(monotonic() - back, 1))


async def _until_gone(fleet: HubFleet, hub: HubRow, devices: int, timeout_s: float, show: Show) -> None:
    end = monotonic() + timeout_s
    while monotonic() < end:
        row = await _row(fleet, hub.name)
        if row is None or row.instance != hub.instance:
            return
        try:
            left: int = (await fleet.state(row))["connections"]
        except HubAway:
            left = 0  # its process has ended, its row goes by itself
            if not row.leaving:
                return
        show(hub.name, "draining", devices - left, devices)
        await asyncio.sleep(LOOK_EVERY_S)
    raise CommandFailed(
        f"{hub.name} was asked to drain and has not ended within {timeout_s:.0f} s; the roll stops here"
    )


async def _until_back(fleet: HubFleet, hub: HubRow, timeout_s: float) -> HubRow:
    end = monotonic() + timeout_s
    while monotonic() < end:
        row = await _row(fleet, hub.name)
        if row is not None and row.instance != hub.instance and not row.draining:
            try:
                if not (await fleet.state(row))["not_ready"]:
                    return row
            except HubAway:
                pass
        await asyncio.sleep(LOOK_EVERY_S)
    raise CommandFailed(
        f"{hub.name} has left and was not started again within {timeout_s:.0f} s: does anything keep it running? "
        f"The roll stops here; the other hubs serve its devices"
    )


async def _until_settled(fleet: HubFleet, hub: HubRow, devices: int, timeout_s: float, show: Show) -> None:
    """Until every hub has acted on the view that has the new run in it."""
    end = monotonic() + timeout_s
    while monotonic() < end:
        waiting = []
        here = 0
        for row in await fleet.chosen([]):
            try:
                state = await fleet.state(row)
            except HubAway:
                waiting.append(row.name)
                continue
            moving = Moving(state)
            if row.name == hub.name:
                here = state["connections"]
            if moving.is_paused:
                raise CommandFailed(f"the moves of {row.name} are paused: `{shown('hubs resume')}`, then roll again")
            if moving.is_held:
                raise CommandFailed(
                    f"{row.name} moves nobody, because more than half of the hubs went at once: "
                    f"`{shown('hubs move')}`, then roll again"
                )
            if state["settled_view"].get(hub.name) != hub.instance or not moving.is_over:
                waiting.append(row.name)
        show(hub.name, "devices come back", min(here, devices), devices)
        if not waiting:
            return
        await asyncio.sleep(LOOK_EVERY_S)
    raise CommandFailed(
        f"{hub.name} runs again, and its devices were not sent back within {timeout_s:.0f} s "
        f"(`{shown('hubs ls')}` shows why); the roll stops here"
    )


async def _row(fleet: HubFleet, name: str) -> HubRow | None:
    return next((row for row in await fleet.rows() if row.name == name), None)
