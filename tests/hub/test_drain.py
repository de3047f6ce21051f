"""Devices are sent away at a rate, each at its own moment."""

import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hub.drain import moments, send_away
from shared.protocol.close_codes import CloseCode


@given(st.integers(0, 2000), st.integers(0, 2**32))
def test_at_least_fifty_a_second_and_all_within_twenty_seconds(count: int, seed: int) -> None:
    when = moments(count, Random(seed), rate=50.0, longest_s=20.0)
    assert len(when) == count
    assert when == sorted(when)
    assert all(0 <= moment <= min(20.0, count / 50.0) for moment in when)


class Leaving:
    def __init__(self, closed: list["Leaving"], gone: asyncio.Event, count: int) -> None:
        self.closed = closed
        self.gone = gone
        self.count = count

    def end(self, code: CloseCode, reason: str | None = None) -> None:
        assert code is CloseCode.DRAINING
        assert reason is None
        self.closed.append(self)
        if len(self.closed) == self.count:
            self.gone.set()


async def test_everyone_is_closed_once_and_waited_for() -> None:
    closed: list[Leaving] = []
    gone = asyncio.Event()
    connections = [Leaving(closed, gone, 30) for _ in range(30)]
    async with asyncio.timeout(5):
        await send_away(connections, Random(1), rate=300.0, longest_s=1.0, gone=gone, close_s=5.0)
    assert set(closed) == set(connections)
    assert len(closed) == 30
