"""A hundred thousand inspections as unlike an even spread as they get, for statements that must not read many."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

COUNT: Final = 100_000
BEGIN: Final = datetime(2026, 11, 1, tzinfo=UTC)
COMMON: Final = UUID(int=1 << 64)
RARE: Final = UUID(int=2 << 64)

# Nearly all are approved, and yet the newest fifth all are drafts of one inspector, who has half of all. What was
# rejected and what was deleted is rare and old; one template was used three times. Four share each moment.
_FILL: Final = """
INSERT INTO inspections (inspection_id, inspector_id, template_id, template_version, status, title, answers, version,
                         is_deleted, created_at, updated_at, submitted_at)
SELECT ('00000000-0000-7000-8000-' || lpad(to_hex((n * 7919) % 1000003), 12, '0'))::uuid,
       CASE WHEN n > 80000 OR n % 8 < 3 THEN 'truck-0' ELSE 'truck-' || 1 + n % 499 END,
       CASE WHEN n IN (10, 20, 30) THEN $3::uuid ELSE $2::uuid END, 1,
       CASE WHEN n > 80000 THEN 'draft' WHEN n % 2001 = 8 AND n < 60000 THEN 'rejected'
            WHEN n % 4001 = 9 THEN 'submitted' ELSE 'approved' END,
       'Daily', '{}', 1, n % 1501 = 7 AND n < 50000, m.at, m.at,
       CASE WHEN n <= 80000 THEN m.at + (n % 977) * interval '1 millisecond' END
FROM generate_series(1, $4::integer) n, LATERAL (SELECT $1::timestamptz + n / 4 * interval '1 millisecond' AS at) m
"""


async def fill(connection: asyncpg.Connection, count: int = COUNT) -> None:
    """Make them, and let the planner know of them."""
    await connection.execute("SET statement_timeout = 0; SET transaction_timeout = 0")
    await connection.execute(
        "INSERT INTO templates (template_id, name, version, body) SELECT unnest($1::uuid[]), 'Daily', 1, '{}'",
        [COMMON, RARE],
    )
    await connection.execute(_FILL, BEGIN, COMMON, RARE, count)
    await connection.execute("ANALYZE inspections, templates")
