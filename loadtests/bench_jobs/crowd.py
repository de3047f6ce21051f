"""Millions of jobs and their histories in a database of their own, made once and kept for the next run.

Jobs are made by the server itself in portions, without the indexes, which are made afterwards as the migrations have
them. The spread is uneven as fleets are: one device has a quarter of all jobs, nearly all are done, the newest wait,
names repeat.
"""

import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import asyncpg

from infra.migrations import runner

__all__ = ["BEGIN", "BIG_DEVICE", "CHANGES_PER_JOB", "LONG_HISTORY", "NoRoom", "check_room", "is_made", "make"]

BEGIN: Final = datetime(2026, 10, 1, tzinfo=UTC)
BIG_DEVICE: Final = "truck-0"
CHANGES_PER_JOB: Final = 4
LONG_HISTORY: Final = 2_000
# With their indexes, and what is needed beside them while those are made.
BYTES_PER_JOB: Final = 1_100
BYTES_PER_CHANGE: Final = 250

_PORTION: Final = 100_000
_DEVICES: Final = 5_000

# Numbers that are as good as drawn, and the same each time.
_DRAWN: Final = "(hashint8extended(n, {seed}) & 1048575) / 1048576.0"
_JOBS: Final = f"""
WITH drawn AS MATERIALIZED (
    SELECT n, $3::timestamptz + n * $4::interval AS created, {_DRAWN.format(seed=1)} AS s, {_DRAWN.format(seed=2)} AS k,
           {_DRAWN.format(seed=3)} AS d, md5(n::text) AS noise
    FROM generate_series($1::bigint, $2::bigint) n
), chosen AS (
    SELECT *,
           CASE WHEN k < 0.55 THEN 'photo' WHEN k < 0.9 THEN 'table' ELSE 'model' END AS kind,
           CASE WHEN n > $5 THEN 'queued' WHEN s < 0.005 THEN 'dead' WHEN s < 0.01 THEN 'cancelled'
                ELSE 'done' END AS status
    FROM drawn
), made AS (
    INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, current_status, run_at,
                      attempts, lease_token, worker, detected_at, created_at, started_at, finished_at)
    SELECT (lpad(to_hex((extract(epoch FROM created) * 1000)::bigint), 12, '0') || '7' || substr(noise, 1, 3) || '8'
            || substr(noise, 4, 15))::uuid,
           'requests', kind, 'truck-' || CASE WHEN d < 0.25 THEN 0 ELSE 1 + n % ({_DEVICES} - 1) END, 'local',
           'Requests/truck/' || noise, name, 1000 + n % 100000, md5(noise) || noise, status, created, 1, 1, 'worker-1',
           created - interval '80 milliseconds', created,
           CASE WHEN status <> 'queued' THEN created + interval '1 second' END,
           CASE WHEN status <> 'queued' THEN created + interval '3 seconds' END
    FROM chosen, LATERAL (SELECT CASE kind
        WHEN 'photo' THEN 'IMG_' || lpad((n % 10000)::text, 4, '0') || '.jpg'
        WHEN 'table' THEN 'weights-' || to_char(created, 'YYYY-MM-DD') || '.csv'
        ELSE 'order-' || n || '.json' END AS name) named
    RETURNING job_id, created_at, current_status
)
INSERT INTO job_status (job_id, ts, status, worker, detail)
SELECT job_id, created_at + (c - 1) * interval '1 second',
       CASE c WHEN 1 THEN 'queued' WHEN $6 THEN current_status WHEN 2 THEN 'running' ELSE 'retry' END,
       CASE WHEN c > 1 THEN 'worker-1' END, CASE WHEN c > 1 THEN 'attempt ' || c - 1 END
FROM made, generate_series(1, $6::integer) c
"""
_INDEXES: Final = """
SELECT indexname, indexdef FROM pg_indexes i
WHERE schemaname = 'public' AND tablename IN ('jobs', 'job_status')
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = i.indexname)
ORDER BY indexname
"""

Say = Callable[[str, float], None]
"""Told what is done now, and how much of all is done (0 to 1)."""


class NoRoom(RuntimeError):
    """The disk has too little room. `str()` says how much is needed and where."""


def check_room(folder: Path, jobs: int) -> None:
    """Raises NoRoom."""
    needed = jobs * (BYTES_PER_JOB + CHANGES_PER_JOB * BYTES_PER_CHANGE)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom(
            f"{jobs:,} jobs need {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free: "
            "choose another folder (--folder) or fewer jobs (--jobs)"
        )


def fingerprint(jobs: int) -> str:
    """What a database was made by. It is made anew when this changes."""
    migrations = sorted(Path(runner.__file__).parent.glob("*.sql"))
    parts = [str(jobs), _JOBS, *(path.read_text("utf-8") for path in migrations)]
    return sha256("\x00".join(parts).encode()).hexdigest()


async def is_made(url: str, jobs: int) -> bool:
    """Whether the database holds exactly what `make` makes."""
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass('bench_crowd') IS NULL"):
            return False
        found: str | None = await connection.fetchval("SELECT fingerprint FROM bench_crowd")
        return found == fingerprint(jobs)
    finally:
        await connection.close()


async def make(url: str, jobs: int, say: Say) -> None:
    """Fill an empty, migrated database."""
    connection = await asyncpg.connect(url)
    try:
        for name in ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"):
            await connection.execute(f"SET {name} = 0")
        # No row refers to one that is not made here.
        await connection.execute("SET session_replication_role = replica; SET maintenance_work_mem = '512MB'")
        await connection.execute(
            "INSERT INTO devices (device_id, class, epoch)"
            " SELECT 'truck-' || n, 'truck', 1 FROM generate_series(0, $1::integer) n",
            _DEVICES - 1,
        )
        indexes = [(row["indexname"], row["indexdef"]) for row in await connection.fetch(_INDEXES)]
        for name, _ in indexes:
            await connection.execute(f"DROP INDEX {name}")
        await _fill(connection, jobs, say)
        for number, (name, definition) in enumerate(indexes):
            say(f"index {name}", 0.55 + 0.35 * number / len(indexes))
            await connection.execute(definition)
        say("vacuum", 0.9)
        await connection.execute("VACUUM (ANALYZE, FREEZE) jobs, job_status, devices")
        await connection.execute("CREATE TABLE bench_crowd (fingerprint text)")
        await connection.execute("INSERT INTO bench_crowd VALUES ($1)", fingerprint(jobs))
        say("checkpoint", 0.98)
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _fill(connection: asyncpg.Connection, jobs: int, say: Say) -> None:
    step = (datetime(2026, 10, 31, tzinfo=UTC) - BEGIN) / jobs
    waiting_from = jobs - max(jobs // 250, 10)
    for first in portions(jobs):
        say(f"{first:,} of {jobs:,} jobs", 0.55 * first / jobs)
        last = min(first + _PORTION, jobs)
        await connection.execute(_JOBS, first + 1, last, BEGIN, step, waiting_from, CHANGES_PER_JOB)
    await connection.execute(
        "INSERT INTO job_status (job_id, ts, status, worker, detail)"
        " SELECT job_id, created_at + n * interval '1 minute', 'retry', 'worker-1', 'attempt ' || n"
        " FROM (SELECT job_id, created_at FROM jobs ORDER BY job_id LIMIT 1) j, generate_series(1, $1) n",
        LONG_HISTORY,
    )


def portions(jobs: int) -> Iterable[int]:
    """Where each portion begins."""
    return range(0, jobs, _PORTION)
