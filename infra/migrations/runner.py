"""Runs the migration files that a database does not have yet, each in its own transaction, one runner at a time.

A file is named NNNN_what.pre.sql or NNNN_what.post.sql. Old and new code both survive a `pre` file, so it runs first
and `post` waits until no old process is left (`fleetwire migrate --post`). The server settings that keep a stopped
process from stopping the others are laid on the database itself, so that they hold through a connection pooler.
"""

import asyncio
import re
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from shared.store.hosts import Hosts

__all__ = ["MigrationError", "apply_server_settings", "migrate", "migration_files"]

_FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.(pre|post)\.sql")
_LOCK: Final = 0x666C_6565_7477  # advisory lock key: one runner at a time
_DEADLINE_S: Final = 300.0

# A process stopped inside a transaction must not stop the others for longer than this.
SERVER_SETTINGS: Final = {
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "2s",
    "statement_timeout": "10s",
    "transaction_timeout": "15s",
}


class MigrationError(RuntimeError):
    """A migration cannot run; the message says which and what to do."""


class MigrationFile(NamedTuple):
    """One file: `phase` is pre or post."""

    name: str
    phase: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text: a file that ran is never edited."""
        return sha256(self.sql.encode()).hexdigest()


def migration_files(folder: Path | None = None) -> list[MigrationFile]:
    """All files in the order they run. Raises MigrationError for a file whose name does not fit."""
    folder = folder or Path(__file__).parent
    found = []
    # A pre file before the post file of its number, which the alphabet has the other way round.
    for file in sorted(folder.glob("*.sql"), key=lambda file: (file.name[:4], ".post." in file.name, file.name)):
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            raise MigrationError(f"{file.name}: name it NNNN_what.pre.sql or NNNN_what.post.sql")
        found.append(MigrationFile(file.name, match[3], file.read_text("utf-8")))
    return found


async def migrate(database_url: str, *, post: bool = True, folder: Path | None = None) -> list[str]:
    """Bring the database up to date and return the names of the files that ran. Raises MigrationError."""
    async with asyncio.timeout(_DEADLINE_S):
        connection = await Hosts(database_url, writable=True).connect(database_url, timeout=10)
        try:
            # The statement deadlines of running processes do not fit a migration.
            await connection.execute(
                "SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0"
            )
            if connection.get_server_version().major >= 17:
                await connection.execute("SET transaction_timeout = 0")
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            return await _run_missing(connection, migration_files(folder), post=post)
        finally:
            await connection.close(timeout=10)


async def _run_missing(connection: "asyncpg.Connection", files: list[MigrationFile], *, post: bool) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        "name text PRIMARY KEY, digest text NOT NULL, ran_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    ran = {row["name"]: row["digest"] for row in await connection.fetch("SELECT name, digest FROM schema_migrations")}
    now_run = []
    for file in files:
        if file.name in ran:
            if ran[file.name] != file.digest:
                raise MigrationError(
                    f"{file.name} was changed after it ran: restore it and put the change into a new file"
                )
            continue
        if file.phase == "post" and not post:
            continue
        async with connection.transaction():
            await connection.execute(file.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (name, digest) VALUES ($1, $2)", file.name, file.digest
            )
        now_run.append(file.name)
    await apply_server_settings(connection)
    return now_run


async def apply_server_settings(connection: "asyncpg.Connection") -> None:
    """Lay SERVER_SETTINGS on the connected database (they hold for connections made from now on)."""
    asked = "SELECT name FROM pg_settings WHERE name = ANY($1)"
    known = {row["name"] for row in await connection.fetch(asked, list(SERVER_SETTINGS))}
    for name, value in SERVER_SETTINGS.items():
        if name in known:
            alter = f"EXECUTE format('ALTER DATABASE %I SET {name} = %L', current_database(), '{value}')"
            await connection.execute(f"DO $$ BEGIN {alter}; END $$")
