"""The line takes the time it says, holds no more than it says and keeps the order."""

import asyncio

import pytest

from loadtests.slow_link import SlowLink
from shared.clock import monotonic


async def test_bytes_take_their_time_and_all_connections_share_the_line() -> None:
    link = SlowLink(bytes_per_s=50_000, buffer_bytes=100_000)
    begun = monotonic()
    ways = [link.transit(down=True) for _ in range(2)]
    for way in ways:
        await way.put(b"x" * 5000)
    for way in ways:
        assert await way.take() == b"x" * 5000
    assert 0.2 <= monotonic() - begun < 1.0


async def test_both_ways_are_lines_of_their_own() -> None:
    link = SlowLink(bytes_per_s=10_000, buffer_bytes=100_000)
    await link.transit(down=True).put(b"x" * 50_000)
    up = link.transit(down=False)
    await up.put(b"ack")
    async with asyncio.timeout(1):
        assert await up.take() == b"ack"


async def test_delay_holds_bytes_back_and_does_not_slow_the_stream() -> None:
    way = SlowLink(delay_s=0.1).transit(down=True)
    begun = monotonic()
    for number in range(10):
        await way.put(b"%d" % number)
    assert b"".join([await way.take() for _ in range(10)]) == b"0123456789"
    assert 0.1 <= monotonic() - begun < 0.6


async def test_a_full_buffer_takes_nothing_until_something_has_left_it() -> None:
    way = SlowLink(bytes_per_s=50_000, buffer_bytes=1000).transit(down=True)
    await way.put(b"x" * 1000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await way.put(b"y")
    await way.take()
    async with asyncio.timeout(1):
        await way.put(b"y")
        await way.end()
        assert [await way.take(), await way.take()] == [b"y", b""]
