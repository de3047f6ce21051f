"""`fleetwire log raise-epoch`: after a restore from a backup, tell every device that events are gone."""

import asyncio
from collections.abc import Mapping

from infra.command_settings import CommandSettings
from shared.settings import load
from shared.store.log_identity import raise_epoch
from shared.store.pool import open_pool
from shared.store.queries import statements

__all__ = ["run"]

_SQL = statements("log_identity")


def run(environ: Mapping[str, str], *, reason: str) -> int:
    """Print the epoch that now holds."""
    epoch = asyncio.run(_raise(load(CommandSettings, environ).need_database_url(), reason[:200]))
    print(f"the log's epoch is {epoch} now; devices are told when they connect, connected ones within seconds")
    return 0


async def _raise(database_url: str, reason: str) -> int:
    pool = await open_pool(database_url, name="command", max_size=1, command_timeout_s=60.0)
    try:
        async with pool.acquire() as connection:
            seen = await connection.fetchval(_SQL["current_epoch"])
            return await raise_epoch(connection, seen, reason)
    finally:
        await pool.close()
