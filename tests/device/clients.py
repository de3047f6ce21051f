"""A client of the fleet, and what tests wait for of one."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

from device import Client, Event, State, Timing
from tests.device.fleet import Fleet

DEADLINE_S = 20.0
FAST = Timing().faster(20)


def client_of(fleet: Fleet, folder: Path | None = None, **options: Any) -> Client:
    """Comes by way of the API, unless the options say otherwise."""
    options = {"token": fleet.token, "api": fleet.api_url, "timing": FAST, "rand": Random(7), **options}
    return Client("truck-7", folder=folder, **options)


async def take(client: Client, count: int) -> list[Event]:
    """The next events, the last one finished too."""
    taken: list[Event] = []
    async with asyncio.timeout(DEADLINE_S):
        async for event in client:
            taken.append(event)
            if len(taken) == count:
                await client.finish(event)
                break
    return taken


def numbers(events: list[Event]) -> list[int]:
    """Their seqs."""
    return [event.position.seq for event in events]


async def take_numbers(client: Client, count: int) -> list[int]:
    """The seqs of the next events, the last one finished too."""
    return numbers(await take(client, count))


async def until(condition: Any) -> None:
    """For conditions that nothing signals, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def live(client: Client) -> None:
    """Its socket is welcomed."""
    await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
