"""A hint reaches the watcher by the bus at once, and by the look when the bus lost it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import asyncpg
import pytest

from shared.bus.message import Message, feed_message
from shared.bus.names import feed_channel
from shared.bus.publisher import Publisher
from shared.store import feed_hints
from shared.store import pool as store_pool
from shared.store.feed_hints import Hint
from shared.store.pool import Pool
from watcher.wake import FeedWake

OURS, THEIRS = "drive:ours", "drive:theirs"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await store_pool.open_pool(database_url, name="test", max_size=4)
    connection = await asyncpg.connect(database_url)
    for feed_id in (OURS, THEIRS):
        await connection.execute("INSERT INTO feeds (feed_id, provider, root) VALUES ($1, 'drive', 'r')", feed_id)
    await connection.close()
    yield opened
    await opened.close()


class Heard:
    def __init__(self) -> None:
        self.hints: list[tuple[str, bool]] = []
        self._came = asyncio.Event()

    def __call__(self, feed_id: str, doubted: bool) -> None:
        self.hints.append((feed_id, doubted))
        self._came.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._came.clear()
                await self._came.wait()


def wake_of(pool: Pool, redis_url: str, heard: Heard, held: set[str], *, look_s: float = 60.0) -> FeedWake:
    return FeedWake(pool, redis_url, held=lambda: held, on_hint=heard, look_s=look_s, rand=Random(1))


@asynccontextmanager
async def running(wake: FeedWake) -> AsyncIterator[None]:
    task = asyncio.create_task(wake.run())
    yield
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def publisher_of(redis_url: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(redis_url, name="test")
    task = asyncio.create_task(publisher.run())
    yield publisher
    await publisher.close()
    await asyncio.wait([task])


async def test_a_hint_on_the_bus_is_heard_long_before_the_next_look_and_only_by_its_owner(
    pool: Pool, redis_url: str
) -> None:
    heard = Heard()
    async with running(wake_of(pool, redis_url, heard, {OURS})), publisher_of(redis_url) as publisher:
        async with asyncio.timeout(20):
            while not heard.hints:
                publisher.offer_to(feed_channel(), feed_message(THEIRS, 1))
                publisher.offer_to(feed_channel(), Message(8, "", 0, 1, b"\xff"))
                publisher.offer_to(feed_channel(), feed_message(OURS, 1))
                await asyncio.sleep(0.02)
    assert set(heard.hints) == {(OURS, False)}


async def test_a_hint_that_the_bus_lost_is_found_by_the_next_look(pool: Pool, redis_url: str) -> None:
    heard = Heard()
    async with running(wake_of(pool, redis_url, heard, {OURS}, look_s=0.02)):
        await feed_hints.hint(pool, [Hint(OURS), Hint(THEIRS)])
        await heard.until(lambda: heard.hints == [(OURS, False)])
        await feed_hints.hint(pool, [Hint(OURS, doubted=True)])
        await heard.until(lambda: heard.hints[1:] == [(OURS, True)])


async def test_what_the_bus_said_is_not_said_again_by_the_look(pool: Pool, redis_url: str) -> None:
    heard = Heard()
    wake = wake_of(pool, redis_url, heard, {OURS})
    moments = await feed_hints.hint(pool, [Hint(OURS)])
    async with running(wake), publisher_of(redis_url) as publisher:
        await heard.until(lambda: len(heard.hints) == 1)  # the first look
        moments = await feed_hints.hint(pool, [Hint(OURS)])
        async with asyncio.timeout(20):
            while len(heard.hints) == 1:
                publisher.offer_to(feed_channel(), feed_message(OURS, moments[OURS]))
                await asyncio.sleep(0.02)
        said = len(heard.hints)
        await wake.look()
        assert len(heard.hints) == said


async def test_a_feed_that_comes_to_this_watcher_is_told_its_last_hint_again(pool: Pool, redis_url: str) -> None:
    heard, held = Heard(), {OURS}
    wake = wake_of(pool, redis_url, heard, held)
    await feed_hints.hint(pool, [Hint(OURS), Hint(THEIRS)])
    await wake.look()
    await wake.look()
    assert heard.hints == [(OURS, False)]
    held.clear()
    await wake.look()
    held.add(THEIRS)
    await wake.look()
    assert heard.hints == [(OURS, False), (THEIRS, False)]
    held.add(OURS)
    await wake.look()
    assert heard.hints[2:] == [(OURS, False)]


async def test_a_number_that_is_not_higher_than_one_before_is_a_repetition(pool: Pool) -> None:
    assert set(await feed_hints.hint(pool, [Hint(OURS, "c", 3)])) == {OURS}
    assert await feed_hints.hint(pool, [Hint(OURS, "c", 3), Hint(OURS, "c", 2)]) == {}
    assert set(await feed_hints.hint(pool, [Hint(OURS, "c", 2), Hint(OURS, "c", 4), Hint(THEIRS)])) == {OURS, THEIRS}
    assert set(await feed_hints.hint(pool, [Hint(OURS, "another", 1)])) == {OURS}
    assert await feed_hints.hint(pool, [Hint("nobody")]) == {}
