"""What fails, one thing after the other. Each fault lasts for a while and says how it ended: from then on it counts how
soon jobs are done again at the old rate.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import asyncpg
import redis.asyncio
from redis.exceptions import RedisError

from loadtests.job_faults.crashing_worker import STEPS
from loadtests.job_faults.scene import Load, Scene

__all__ = ["FAULTS", "Fault", "Struck"]

_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_WORKERS: Final = "application_name LIKE 'fleetwire-w%'"


@dataclass
class Struck:
    """What a fault is given, and what it says it did."""

    scene: Scene
    load: Load
    seconds: float
    lease_s: float
    times: int = 0


Strike = Callable[[Struck], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """`strike` returns when nothing fails any more."""

    name: str
    strike: Strike
    small: bool = False
    rabbit: bool = False
    """Hints go by RabbitMQ."""


async def _postgres(struck: Struck, *, kill: bool) -> None:
    postgres = struck.scene.postgres
    await (postgres.kill() if kill else postgres.stop())
    struck.times += 1
    await asyncio.sleep(struck.seconds / 4)
    await postgres.start()


async def _backends(struck: Struck) -> None:
    """The workers' connections are cut, several times a second."""
    connection = await asyncpg.connect(struck.scene.database_url)
    end = asyncio.get_running_loop().time() + struck.seconds
    try:
        while asyncio.get_running_loop().time() < end:
            killed = await connection.fetch(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_WORKERS} AND random() < 0.5"
            )
            struck.times += len(killed)
            await asyncio.sleep(0.15)
    finally:
        await connection.close()


async def _connections(struck: Struck) -> None:
    """Others hold every connection that Postgres has, and the workers' are cut."""
    url = struck.scene.database_url
    held: list[asyncpg.Connection] = []
    killer = await asyncpg.connect(url)
    end = asyncio.get_running_loop().time() + struck.seconds
    try:
        while asyncio.get_running_loop().time() < end:
            await killer.fetch(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_WORKERS}")
            with suppress(*_ERRORS):
                while True:
                    held.append(await asyncpg.connect(url, timeout=2))
                    struck.times += 1
            await asyncio.sleep(0.05)
    finally:
        await asyncio.gather(*(connection.close() for connection in (killer, *held)), return_exceptions=True)


async def _pool(struck: Struck) -> None:
    """Every connection of every worker waits for a lock, so that their pools have none left."""
    connection = await asyncpg.connect(struck.scene.database_url)
    end = asyncio.get_running_loop().time() + struck.seconds
    try:
        while asyncio.get_running_loop().time() < end:
            with suppress(*_ERRORS):
                async with connection.transaction():
                    await connection.execute("SET LOCAL lock_timeout = '10s'")
                    await connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
                    struck.times += 1
                    await asyncio.sleep(min(4.0, struck.seconds))
    finally:
        await connection.close()


async def _redis_killed(struck: Struck) -> None:
    await struck.scene.valkey.kill()
    struck.times += 1
    await asyncio.sleep(struck.seconds)
    await struck.scene.valkey.start()


async def _redis_stopped(struck: Struck) -> None:
    struck.scene.valkey.send(signal.SIGSTOP)
    struck.times += 1
    await asyncio.sleep(struck.seconds)
    struck.scene.valkey.send(signal.SIGCONT)


async def _redis_flushed(struck: Struck) -> None:
    """Streams and groups vanish under the workers."""
    client = redis.asyncio.Redis.from_url(struck.scene.valkey.server.url)
    end = asyncio.get_running_loop().time() + struck.seconds
    try:
        while asyncio.get_running_loop().time() < end:
            with suppress(RedisError, OSError):
                await client.flushall()
                struck.times += 1
            await asyncio.sleep(0.1)
    finally:
        await client.aclose()


async def _rabbit_killed(struck: Struck) -> None:
    rabbit = struck.scene.rabbit
    assert rabbit is not None
    await asyncio.to_thread(rabbit.kill)
    struck.times += 1
    await asyncio.sleep(struck.seconds)
    rabbit.launch()
    await rabbit.wait_ready()


async def _rabbit_stopped(struck: Struck) -> None:
    rabbit = struck.scene.rabbit
    assert rabbit is not None
    rabbit.pause()
    struck.times += 1
    await asyncio.sleep(struck.seconds)
    rabbit.resume()


async def _hints_lost(struck: Struck) -> None:
    struck.load.hints = False
    before = len(struck.load.accepted)
    await asyncio.sleep(struck.seconds)
    struck.load.hints = True
    struck.times += len(struck.load.accepted) - before


async def _killed(struck: Struck) -> None:
    """kill -9 of any worker, wherever it is in its work."""
    end = asyncio.get_running_loop().time() + struck.seconds
    while asyncio.get_running_loop().time() < end:
        struck.scene.rand.choice(struck.scene.workers).kill()
        struck.times += 1
        await asyncio.sleep(struck.scene.rand.uniform(0.2, 1.0))


async def _rolled(struck: Struck) -> None:
    """Every worker is stopped in an orderly way, one after the other, and started again."""
    for worker in struck.scene.workers:
        before = worker.starts
        worker.terminate()
        struck.times += 1
        while worker.starts == before:
            await asyncio.sleep(0.05)
        await asyncio.sleep(struck.seconds / 4)


async def _killed_at(struck: Struck, *, step: str) -> None:
    """One worker kills itself at the step, is started again, and again."""
    worker = struck.scene.workers[-1]
    before = worker.crashes
    worker.crash_at = step
    worker.kill()
    try:
        async with asyncio.timeout(max(30.0, 4 * struck.seconds)):
            await asyncio.sleep(struck.seconds)
            while worker.crashes - before <= (3 if struck.seconds > 1 else 1):  # the first was ours
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    worker.crash_at = None
    worker.kill()
    struck.times = worker.crashes - before - 1


async def _stopped(struck: Struck) -> None:
    """A worker stands still, with its handlers, for longer than its leases, and wakes up in the middle of its work."""
    worker = struck.scene.workers[-1]
    for _ in range(2):
        worker.send(signal.SIGSTOP)
        struck.times += 1
        await asyncio.sleep(struck.lease_s + 1.5)
        worker.send(signal.SIGCONT)
        await asyncio.sleep(0.3)


FAULTS: Final = (
    Fault("Postgres restarted", partial(_postgres, kill=False)),
    Fault("Postgres killed and started", partial(_postgres, kill=True)),
    Fault("backends killed again and again", _backends),
    Fault("no connection left at Postgres", _connections),
    Fault("workers' pools exhausted", _pool),
    Fault("Redis killed", _redis_killed),
    Fault("Redis stopped (SIGSTOP)", _redis_stopped),
    Fault("Redis flushed again and again", _redis_flushed),
    Fault("hints lost", _hints_lost),
    Fault("workers killed at any time", _killed),
    Fault("workers stopped in order (SIGTERM)", _rolled),
    *(Fault(f"killed: {step}", partial(_killed_at, step=step), small=step == "response.json stored") for step in STEPS),
    Fault("worker stopped past its lease", _stopped),
    Fault("RabbitMQ killed and started", _rabbit_killed, rabbit=True),
    Fault("RabbitMQ stopped (SIGSTOP)", _rabbit_stopped, rabbit=True),
    Fault("RabbitMQ: workers killed at any time", _killed, rabbit=True),
)
