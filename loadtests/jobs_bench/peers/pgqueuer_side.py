"""PgQueuer: a coroutine that does nothing; batches of any size, ends written together by its own buffer.

Runs in the throw-away environment, as a file: what to do as arguments, PEER_DATABASE_URL in the environment.
"""

import asyncio
import os
import struct
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
from pgqueuer import AsyncpgPoolDriver, Job, QueueManager
from pgqueuer.queries import Queries
from side import begun, main

URL = os.environ["PEER_DATABASE_URL"]
TIME = struct.Struct("d")


async def pool() -> asyncpg.Pool:
    """Connections."""
    return await asyncpg.create_pool(URL, min_size=4, max_size=6)


class PgQueuer:
    """The sending side."""

    def __init__(self, connections: asyncpg.Pool) -> None:
        self._pool = connections
        self._queries = Queries(AsyncpgPoolDriver(connections))

    async def queue(self, count: int) -> None:
        """One statement."""
        await self._queries.enqueue(["noop"] * count, [TIME.pack(time.time())] * count, [0] * count)

    async def left(self) -> int:
        """Rows in its queue: what is done leaves it for its log."""
        return int(await self._pool.fetchval("SELECT count(*) FROM pgqueuer"))


async def open_peer() -> PgQueuer:
    """Ready to send."""
    return PgQueuer(await pool())


async def prepare() -> None:
    """Its tables, as its own command makes them."""
    await Queries(AsyncpgPoolDriver(await pool())).install()


async def work(batch: int, stopped: Callable[[], Awaitable[None]]) -> None:
    """One worker."""
    manager = QueueManager(Queries(AsyncpgPoolDriver(await pool())))

    @manager.entrypoint("noop")  # type: ignore[untyped-decorator]
    async def noop(job: Job) -> None:
        assert job.payload is not None
        begun(TIME.unpack(job.payload)[0])

    running = asyncio.create_task(manager.run(batch_size=batch, dequeue_timeout=timedelta(seconds=1)))
    running.add_done_callback(lambda task: task.result())  # into the log
    await stopped()
    manager.shutdown.set()
    await asyncio.wait([running], timeout=10)


if __name__ == "__main__":
    main(open_peer, prepare, work)
