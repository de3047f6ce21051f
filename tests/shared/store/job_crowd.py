"""A hundred thousand jobs as unlike an even spread as they get, for statements that must not read many of them."""

from datetime import UTC, datetime
from typing import Final

import asyncpg

COUNT: Final = 100_000
BEGIN: Final = datetime(2026, 11, 1, tzinfo=UTC)

# Nearly all are done, and yet the newest fifth all wait: whoever looks for a done one among the newest reads 20,000.
# One device has half of all and is the only one that sent lately. Dead ones are few and old, one kind is rarer still.
# Four jobs share each moment, a third share one name. Those of 11 bytes have a history.
_FILL: Final = """
INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, current_status, created_at)
SELECT ('00000000-0000-7000-8000-' || lpad(to_hex((n * 7919) % 1000003), 12, '0'))::uuid, 'requests',
       CASE WHEN n IN (10, 20, 30) THEN 'model' WHEN n % 3 = 0 THEN 'photo' ELSE 'table' END,
       CASE WHEN n > 80000 OR n % 8 < 3 THEN 'truck-0' ELSE 'truck-' || 1 + n % 499 END,
       'local', 'Requests/x', CASE WHEN n % 3 = 0 THEN 'photo.jpg' ELSE 'load-' || n % 5000 || '.csv' END,
       CASE WHEN n % 10 = 0 THEN 11 ELSE 10 END, repeat('0', 64),
       CASE WHEN n > 80000 THEN 'queued' WHEN n % 2001 = 8 AND n < 60000 THEN 'dead' WHEN n % 4001 = 9 THEN 'cancelled'
            ELSE 'done' END,
       $1::timestamptz + n / 4 * interval '1 millisecond'
FROM generate_series(1, $2::integer) n
"""


async def fill(connection: asyncpg.Connection, count: int = COUNT) -> None:
    """Make them, and let the planner know of them."""
    # It may be a busy machine, and what is made here refers to what is made here.
    await connection.execute(
        "SET statement_timeout = 0; SET transaction_timeout = 0; SET session_replication_role = replica"
    )
    await connection.execute(
        "INSERT INTO devices (device_id, class, epoch) SELECT 'truck-' || n, 'truck', 1 FROM generate_series(0, 499) n"
    )
    await connection.execute(_FILL, BEGIN, count)
    await connection.execute(
        "INSERT INTO job_status (job_id, status, ts) SELECT job_id, s, created_at + n * interval '1 second'"
        " FROM jobs, unnest(ARRAY['queued', 'running']) WITH ORDINALITY u (s, n) WHERE size = 11"
    )
    await connection.execute("VACUUM ANALYZE jobs, job_status")
