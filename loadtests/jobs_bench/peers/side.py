"""What the peers' programs share: the arguments, and sending as our own side does it.

`work BATCH` works until SIGTERM and then says how long each job waited to be begun; `drain JOBS BATCH SENDERS AHEAD`
queues jobs, with at most so many ahead, until all are done; `single JOBS` queues one at a time, each a moment after
the one before has ended. Answers are one line of JSON. Runs in the throw-away environment, as a file.
"""

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import uvloop

__all__ = ["Peer", "begun", "main"]

STALL_S = 10.0
waited_ms: list[float] = []


def begun(sent: float) -> None:
    """A job was begun that was sent at this time."""
    waited_ms.append((time.time() - sent) * 1000)


class Peer(Protocol):
    """One peer."""

    async def queue(self, count: int) -> None:
        """Queue so many jobs in one transaction."""

    async def left(self) -> int:
        """Jobs that are not done."""


async def drain(peer: Peer, jobs: int, batch: int, senders: int, ahead: int) -> float:
    """Seconds from the first job queued to the last one done."""
    queued = stored = done = 0
    began = time.monotonic()

    async def send() -> None:
        nonlocal queued, stored
        while queued < jobs:
            if queued - done >= ahead:
                await asyncio.sleep(0.005)
                continue
            count = min(batch, jobs - queued)
            queued += count
            await peer.queue(count)
            stored += count

    sending = [asyncio.create_task(send()) for _ in range(senders)]
    moved = began
    while done < jobs:
        await asyncio.sleep(0.02)
        before = stored
        now = before - await peer.left()  # at least so many: what was stored meanwhile is left as well
        if now > done:
            done, moved = now, time.monotonic()
        if time.monotonic() - moved > STALL_S:
            raise RuntimeError(f"only {done} of {jobs} jobs are done, and nothing moves")
    await asyncio.gather(*sending)
    return time.monotonic() - began


async def single(peer: Peer, jobs: int) -> float:
    """Seconds from a job queued to it done, in all."""
    busy = 0.0
    for _ in range(jobs):
        await asyncio.sleep(random.uniform(0.005, 0.02))
        began = time.monotonic()
        await peer.queue(1)
        while await peer.left():
            await asyncio.sleep(0.003)
            if time.monotonic() - began > STALL_S:
                raise RuntimeError("a job does not end")
        busy += time.monotonic() - began
    return busy


async def stopped() -> None:
    """Until SIGTERM."""
    event = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, event.set)
    await event.wait()


def say(answer: Any) -> None:
    """One line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(
    open_peer: Callable[[], Awaitable[Peer]],
    prepare: Callable[[], Awaitable[None]],
    work: Callable[[int, Callable[[], Awaitable[None]]], Awaitable[None]],
) -> None:
    """What the arguments ask for."""
    what, *numbers = sys.argv[1:]
    given = [int(number) for number in numbers]

    async def run() -> None:
        if what == "prepare":
            await prepare()
        elif what == "work":
            await work(given[0], stopped)
            say(sorted(waited_ms))
        elif what == "drain":
            say(await drain(await open_peer(), *given))
        else:
            say(await single(await open_peer(), *given))

    uvloop.run(run())
