"""Sending all devices away, spread over time: nobody gains when five hundred come back elsewhere in the same instant.

At least 50 a second, and never longer than 20 s for all of them: `max(50/s, n/20 s)`. Each close has its own random
moment.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from random import Random
from typing import Protocol

from shared.clock import monotonic
from shared.protocol.close_codes import CloseCode

__all__ = ["moments", "send_away"]


class _Leaving(Protocol):
    def end(self, code: CloseCode, reason: str | None = None) -> None: ...


def moments(count: int, rand: Random, *, rate: float, longest_s: float) -> list[float]:
    """Seconds from the start at which each of `count` connections is closed, in order."""
    if count == 0:
        return []
    span = min(longest_s, max(0.0, count / rate))
    return sorted(rand.uniform(0.0, span) for _ in range(count))


async def send_away(
    connections: Sequence[_Leaving],
    rand: Random,
    *,
    rate: float,
    longest_s: float,
    gone: asyncio.Event,
    close_s: float,
) -> None:
    """Close all with 4001 and wait until `gone`, `close_s` beyond the last at most."""
    began = monotonic()
    shuffled = rand.sample(list(connections), len(connections))
    for moment, connection in zip(moments(len(shuffled), rand, rate=rate, longest_s=longest_s), shuffled, strict=True):
        wait = began + moment - monotonic()
        if wait > 0.005:
            await asyncio.sleep(wait)
        connection.end(CloseCode.DRAINING)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(close_s):
            await gone.wait()
