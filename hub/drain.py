"""Sending all devices away, spread over time: nobody gains when five hundred come back elsewhere in the same instant.

At least 50 a second, and never longer than 20 s for all of them: `max(50/s, n/20 s)`. Each device has its own random
moment, and is told `moved` shortly before it: to the hub that takes its slot when this one is gone. Its connection goes
on until the new one supersedes it. Whoever stays too long, and whoever no hub has room for, is closed with 4001 and
asks for the assignment.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, NamedTuple

from hub.leavers import Leavers, Leaving
from shared.clock import monotonic
from shared.protocol.close_codes import CloseCode

__all__ = ["Pace", "moments", "send_away"]

LOOK_S: Final = 0.1


class Pace(NamedTuple):
    """Devices per second at least; seconds for all of them at most, between two waves, and from its moment until a
    device that was told is closed.
    """

    rate: float
    longest_s: float
    wave_s: float
    linger_s: float


def moments(count: int, rand: Random, *, rate: float, longest_s: float) -> list[float]:
    """Seconds from the start at which each of `count` devices goes, in order."""
    if count == 0:
        return []
    span = min(longest_s, max(0.0, count / rate))
    return sorted(rand.uniform(0.0, span) for _ in range(count))


async def send_away(
    connections: Sequence[Leaving],
    rand: Random,
    *,
    pace: Pace,
    heir: Callable[[Leaving], str | None],
    is_alone: Callable[[], bool],
    gone: asyncio.Event,
    close_s: float,
    on_outcome: Callable[[str], None] = lambda outcome: None,
) -> None:
    """Tell all where to go and wait until they have gone, `close_s` beyond the last deadline at most.

    `heir(connection)` is the address it goes to, None when no hub takes it; `is_alone()` says that no other hub stays.
    """
    began = monotonic()
    shuffled = rand.sample(list(connections), len(connections))
    when = moments(len(shuffled), rand, rate=pace.rate, longest_s=pace.longest_s)
    due = list(zip(when, shuffled, strict=True))
    due.reverse()
    leavers = Leavers(CloseCode.DRAINING, lambda _, outcome: on_outcome(outcome))
    look_s = min(LOOK_S, pace.wave_s)
    while due or leavers:
        now = monotonic()
        while due and began + due[-1][0] <= now + pace.wave_s:
            moment, connection = due.pop()
            if connection.is_over:
                continue
            url = heir(connection)
            at = began + moment
            if url is not None:
                connection.tell_moved(url, max(0, int((at - now) * 1000)), "drain")
            leavers.add(connection, at + (pace.linger_s if url is not None else 0.0), "drain")
        if is_alone():
            leavers.end_all()  # nobody is there whom those that were told could go to
        leavers.look(now)
        if gone.is_set():
            return
        await asyncio.sleep(look_s)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(close_s):
            await gone.wait()
