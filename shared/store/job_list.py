"""Reading jobs for people and dashboards: filtered pages, one job with all that is known of it, and its history.

A page is a walk along one index from a key. What is walked is bounded, not only what is returned, so a page may be
short and still not the last: `next_key` says whether there may be more, and from where.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from shared.store.jobs import JobStatus
from shared.store.pool import Pool, Reader
from shared.store.queries import statements

__all__ = ["LIMIT_MAX", "WALK_MAX", "HistoryRow", "JobDetail", "JobPage", "JobRow", "Walk", "history", "job", "page"]

_SQL = statements("job_list")

WALK_MAX: Final = 5000
"""Most rows that one page looks at; the statements say the same number."""
LIMIT_MAX: Final = 500
"""Most rows of a page: far fewer than a walk has, so that a full page is told from a walk that was cut off."""


class Walk(NamedTuple):
    """A statement's name, the key it begins after with the other end of its range, and what it checks on the way."""

    statement: str
    key: tuple[object, ...]
    checks: tuple[str | None, ...] = ()


class JobRow(NamedTuple):
    """A job as lists show it."""

    job_id: UUID
    device_id: str
    kind: str
    name: str
    status: JobStatus
    attempts: int
    size: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobPage(NamedTuple):
    """Jobs in order, and the row after which the next page begins; None when there is none."""

    rows: Sequence[JobRow]
    last: JobRow | None


class JobDetail(NamedTuple):
    """A job, and how its response ended if it has."""

    row: JobRow
    queue: str
    error: str | None
    worker: str | None
    requested_by: str | None
    redrives: int
    detected_at: datetime | None
    run_at: datetime | None
    give_up_at: datetime | None
    outcome: str | None
    event_id: str | None
    priority: int
    unique_key: str | None


class HistoryRow(NamedTuple):
    """One change of a job's state."""

    id: int
    ts: datetime
    status: JobStatus
    worker: str | None
    detail: str | None


async def page(reader: Reader, walk: Walk, *, limit: int) -> JobPage:
    """The next rows of a walk. One more than asked for is read, to tell whether there are more."""
    if not 1 <= limit <= LIMIT_MAX:
        raise ValueError(f"a page has 1 to {LIMIT_MAX} rows, not {limit}")
    found = await reader.fetch(_SQL[walk.statement], *walk.key, limit + 1, *walk.checks)
    rows = [JobRow(*tuple(row)[:-2]) for row in found if row["matches"]]
    if len(rows) > limit:
        return JobPage(rows[:limit], rows[limit - 1])
    cut_off = bool(found) and found[-1]["walked"] == WALK_MAX
    return JobPage(rows, JobRow(*tuple(found[-1])[:-2]) if cut_off else None)


async def job(pool: Pool, job_id: UUID) -> JobDetail | None:
    """The job, or None."""
    rows = await pool.fetch(_SQL["job"], job_id)
    if not rows:
        return None
    count = len(JobRow._fields)
    values = tuple(rows[0])
    return JobDetail(JobRow(*values[:count]), *values[count:])


async def history(pool: Pool, job_id: UUID, *, before: tuple[datetime, int], limit: int) -> Sequence[HistoryRow]:
    """Changes of the job's state, newest first, that come after the row keyed `before`."""
    return [HistoryRow(*row) for row in await pool.fetch(_SQL["history"], job_id, *before, limit)]
