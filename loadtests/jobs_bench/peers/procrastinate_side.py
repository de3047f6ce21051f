"""procrastinate: a coroutine that does nothing; it takes jobs one by one, and at most 50 at once: more made it slower.

Runs in the throw-away environment, as a file: what to do as arguments, PEER_DATABASE_URL in the environment.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

import procrastinate
from psycopg_pool import AsyncConnectionPool
from side import begun, main

URL = os.environ["PEER_DATABASE_URL"]
logging.disable(logging.INFO)
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=URL, min_size=4, max_size=10))


@app.task(name="noop")  # type: ignore[untyped-decorator]
async def noop(sent: float) -> None:
    """Nothing."""
    begun(sent)


class Procrastinate:
    """The sending side."""

    def __init__(self, connections: AsyncConnectionPool) -> None:
        self._pool = connections

    async def queue(self, count: int) -> None:
        """One statement."""
        await noop.batch_defer_async(*[{"sent": time.time()}] * count)

    async def left(self) -> int:
        """Jobs not ended, which its partial index has."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
            )
            row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def open_peer() -> Procrastinate:
    """Ready to send."""
    await app.open_async()
    connections = AsyncConnectionPool(URL, min_size=1, max_size=2, open=False, kwargs={"autocommit": True})
    await connections.open()
    return Procrastinate(connections)


async def prepare() -> None:
    """Its tables, as its own command makes them."""
    await app.open_async()
    await app.schema_manager.apply_schema_async()


async def work(batch: int, stopped: Callable[[], Awaitable[None]]) -> None:
    """One worker. It listens for notices and polls each second."""
    await app.open_async()
    running = asyncio.create_task(
        app.run_worker_async(concurrency=min(batch, 50), fetch_job_polling_interval=1.0, install_signal_handlers=False)
    )
    await stopped()
    running.cancel()
    await asyncio.wait([running], timeout=10)


if __name__ == "__main__":
    main(open_peer, prepare, work)
