"""Schedules: what makes jobs by the clock, each firing by exactly one of all workers.

Whoever sees that one is due moves its `next_at` on by compare-and-set, in the transaction that inserts the jobs: so a
firing happens once or not at all, whoever dies when. Firings that were missed, because no worker ran, are made up for
by one. The time is Postgres' clock.
"""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

from shared.schedule_rules import Rule
from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = [
    "DEVICES_MAX",
    "FIRING_MAX_BYTES",
    "SCHEDULES_MAX",
    "Due",
    "NewSchedule",
    "Schedule",
    "due",
    "enable",
    "fire",
    "get",
    "listed",
    "now",
    "put",
    "remove",
    "unknown_devices",
]

SCHEDULES_MAX: Final = 1000
DEVICES_MAX: Final = 1000
FIRING_MAX_BYTES: Final = 16 * 1024 * 1024
"""Of requests that one firing writes: it is one statement, and one that takes too long never fires."""

_SQL = statements("schedules")


class NewSchedule(NamedTuple):
    """What is to happen: for each device a job of `kind` with `body` as its request. No priority: the kind's."""

    name: str
    cron: str | None
    every_s: int | None
    timezone: str
    device_ids: list[str]
    kind: str
    request_name: str
    body: str
    priority: int | None
    next_at: datetime
    created_by: str


class Schedule(NamedTuple):
    """A schedule's row."""

    name: str
    cron: str | None
    every_s: int | None
    timezone: str
    device_ids: list[str]
    kind: str
    request_name: str
    body: str
    priority: int | None
    enabled: bool
    next_at: datetime
    fired_at: datetime | None
    created_by: str
    created_at: datetime

    @property
    def rule(self) -> Rule:
        """When it fires. Raises WrongRule for a time zone that this machine does not know."""
        return Rule(self.cron, self.every_s, self.timezone)


class Due(NamedTuple):
    """A schedule whose time has come, and the time that it is."""

    schedule: Schedule
    now: datetime


async def put(pool: Pool, new: NewSchedule) -> bool | None:
    """Make or replace it; with the same rule it stays due when it was.

    Whether it was made; None when there are SCHEDULES_MAX others.
    """
    rows = await pool.fetch(_SQL["put"], *new, SCHEDULES_MAX, repeatable=True)
    return bool(rows[0]["made"]) if rows else None


async def unknown_devices(pool: Pool, device_ids: Sequence[str]) -> list[str]:
    """Some of those that do not exist."""
    return [row["device_id"] for row in await pool.fetch(_SQL["unknown_devices"], list(device_ids))]


async def now(pool: Pool) -> datetime:
    """The time that schedules go by."""
    moment: datetime = (await pool.fetch(_SQL["now"]))[0]["now"]
    return moment


async def listed(pool: Pool) -> list[Schedule]:
    """All of them by name: there are few."""
    return [Schedule(*row) for row in await pool.fetch(_SQL["list"], SCHEDULES_MAX)]


async def get(pool: Pool, name: str) -> Schedule | None:
    """The schedule, or None."""
    rows = await pool.fetch(_SQL["get"], name)
    return Schedule(*rows[0]) if rows else None


async def enable(pool: Pool, name: str, *, enabled: bool, next_at: datetime) -> bool:
    """Pause it, or go on from `next_at`. False when there is none."""
    return bool(await pool.fetch(_SQL["enable"], name, enabled, next_at, repeatable=True))


async def remove(pool: Pool, name: str) -> bool:
    """Forget it. Its jobs stay. False when there was none."""
    return bool(await pool.fetch(_SQL["remove"], name))


async def due(pool: Pool, *, limit: int = 100) -> list[Due]:
    """Those whose time has come, the latest first."""
    return [Due(Schedule(*tuple(row)[:-1]), row["now"]) for row in await pool.fetch(_SQL["due"], limit)]


async def fire(
    pool: Pool, one: Schedule, next_at: datetime, *, job_ids: Sequence[UUID], queue: str, store: str, priority: int
) -> int | None:
    """Queue the jobs of this firing and move on; how many. None when another did. `job_ids` are as many as devices."""
    content = one.body.encode()
    what: tuple[Any, ...] = one.request_name, len(content), sha256(content).hexdigest(), one.body, priority
    rows = await pool.fetch(
        _SQL["fire"], one.name, one.next_at, next_at, list(job_ids), one.device_ids, queue, one.kind, store, *what
    )
    return int(rows[0]["made"]) if rows[0]["fired"] else None
