"""`fleetwire migrate`: bring the database up to date."""

import asyncio
from collections.abc import Mapping

import asyncpg

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.migrations import runner
from shared.settings import load

__all__ = ["run"]


def run(environ: Mapping[str, str], *, post: bool) -> int:
    """Print each file that ran."""
    database_url = load(CommandSettings, environ).need_database_url()
    try:
        ran = asyncio.run(runner.migrate(database_url, post=post))
    except (OSError, asyncpg.PostgresError) as error:
        raise CommandFailed(f"the database cannot be brought up to date: {error}") from error
    for name in ran:
        print(name)
    if not ran:
        print("nothing to do")
    return 0
