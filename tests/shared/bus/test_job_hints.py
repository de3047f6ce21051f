"""Hints end a worker's wait early, and nothing else depends on them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import redis.asyncio as redis

from loadtests.ports import free_port
from shared.bus.job_hints import STREAM_MAX, JobHintReader, JobHints, Offer
from shared.bus.names import job_stream
from tests.conftest import ServerFactory
from tests.shared.bus.conftest import until


@asynccontextmanager
async def hinting(url: str) -> AsyncIterator[JobHints]:
    hints = JobHints(url)
    task = asyncio.create_task(hints.run())
    try:
        yield hints
    finally:
        await hints.close()
        await task


@asynccontextmanager
async def waiting(url: str, consumer: str = "worker-1") -> AsyncIterator[JobHintReader]:
    reader = JobHintReader(url, "requests", consumer=consumer)
    try:
        yield reader
    finally:
        await reader.close()


async def test_a_hint_ends_the_wait_of_one_worker(redis_url: str) -> None:
    async with hinting(redis_url) as hints, waiting(redis_url, "a") as a, waiting(redis_url, "b") as b:
        assert await a.wait(0.05) == await b.wait(0.05) == []
        waits = [asyncio.create_task(worker.wait(2.0)) for worker in (a, b)]
        job = uuid4()
        await until(lambda: hints.connected, "connected")
        hints.offer("requests", job)
        done, pending = await asyncio.wait(waits, timeout=1.5, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [[job]]
        assert len(pending) == 1
        hints.offer("requests", job)
        assert await pending.pop() == [job]


async def test_a_wait_without_a_hint_lasts_as_long_as_asked(redis_url: str) -> None:
    async with waiting(redis_url) as reader:
        began = time.monotonic()
        assert await reader.wait(0.3) == []
        assert 0.25 <= time.monotonic() - began <= 0.8


async def test_without_a_redis_the_wait_is_a_sleep() -> None:
    async with waiting(f"redis://127.0.0.1:{free_port()}/0") as reader:
        began = time.monotonic()
        assert await reader.wait(0.3) == []
        assert 0.28 <= time.monotonic() - began <= 0.8


async def test_beside_a_hanging_redis_the_wait_ends_in_time(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with waiting(server.url) as reader:
        await reader.wait(0.05)
        server.pause()
        began = time.monotonic()
        assert await reader.wait(0.3) == []
        assert time.monotonic() - began <= 1.0
        server.resume()
        async with hinting(server.url) as hints:
            await until(lambda: hints.connected, "connected")
            wait = asyncio.create_task(reader.wait(3.0))
            await until(lambda: reader._has_group, "listening again")
            job = uuid4()
            hints.offer("requests", job)
            assert await wait == [job]


async def test_a_flushed_redis_is_listened_to_again(redis_url: str) -> None:
    async with waiting(redis_url) as reader, redis.Redis.from_url(redis_url) as admin:
        await reader.wait(0.05)
        await admin.flushall()
        assert await reader.wait(0.05) == []
        assert await reader.wait(0.05) == []
        job = uuid4()
        await admin.xadd(job_stream("requests"), {"job": str(job)})
        assert await reader.wait(1.0) == [job]


async def test_a_hint_that_names_no_job_is_passed_over(redis_url: str) -> None:
    async with waiting(redis_url) as reader, redis.Redis.from_url(redis_url) as admin:
        await reader.wait(0.05)
        job = uuid4()
        for fields in ({"job": "../../etc"}, {"other": "x"}, {"job": b"\xff\xfe"}, {"job": str(job)}):
            await admin.xadd(job_stream("requests"), fields)  # type: ignore[arg-type]
        found: list[UUID] = []
        while not found:
            found = await reader.wait(1.0)
        assert found == [job]


async def test_the_stream_stays_short_though_nobody_reads_it(redis_url: str) -> None:
    async with hinting(redis_url) as hints, redis.Redis.from_url(redis_url) as admin:
        await until(lambda: hints.connected, "connected")
        for _ in range(3):
            for _ in range(8000):
                assert hints.offer("requests", uuid4()) is Offer.OFFERED
            await until(lambda: hints.held == 0, "sent")
        assert await admin.xlen(job_stream("requests")) < STREAM_MAX * 1.2
