"""Jobs: the queue, and the only truth about what is to be done, by whom, and what came of it.

A claim raises the job's `lease_token`. Whatever a worker does later presents that token, so one that was stopped and
wakes up after its lease changes nothing, and what follows from an end (response, event) is written in the same
transaction, for the jobs that `finish` returned and for no others. Every change of state is also a row in the
history, which the database keeps append-only.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import asyncpg

from shared.store import log, responses
from shared.store.errors import UniqueKeyTaken
from shared.store.pool import Connection, Pool
from shared.store.queries import statements
from shared.store.turns import Turns

__all__ = [
    "DEPTH_MAX",
    "TRANSACTION_STATEMENTS",
    "Cancelled",
    "Claimed",
    "Depth",
    "Finish",
    "InlineJob",
    "Job",
    "JobStatus",
    "NewJob",
    "StatusRow",
    "cancel",
    "cancelled",
    "claim",
    "depth",
    "finish",
    "get",
    "history",
    "insert_inline",
    "insert_jobs",
    "redrive",
    "release",
    "renew",
    "retry",
    "unfinished",
]

_SQL = statements("jobs")

TRANSACTION_STATEMENTS: Final = (_SQL["walk"], _SQL["claim"], _SQL["finish"])
"""What a worker's transactions run, for every connection to know before they hold locks."""

DEPTH_MAX: Final = 10_000

JobStatus = Literal["queued", "running", "done", "retry", "dead", "cancelled"]


class NewJob(NamedTuple):
    """A file to be handled. `content_version` is its content as it was seen: only that is this job's business.

    `detected_age_s` is how long ago it was seen; `path` is the one inside the store, `name` its last component, and
    `object_id` the provider's own id of it, where it has one. Higher priorities are claimed first.
    """

    job_id: UUID
    queue: str
    kind: str
    device_id: str
    store: str
    path: str
    name: str
    size: int
    content_version: str
    detected_age_s: float = 0.0
    traceparent: str | None = None
    object_id: str | None = None
    priority: int = 0


class Claimed(NamedTuple):
    """A job that is the claimant's for as long as it renews, under `lease_token`. `attempt` counts from 1.

    `expires_in_s` is what is left of its time to live; `folder` in `response_store` is where its response goes, the
    same in every attempt unless that store failed. `redrives` is how often it was queued anew after it was dead. A job
    without a file has its request in `inline_body`; `object_id` is the provider's id of one with a file.
    """

    job_id: UUID
    kind: str
    device_id: str
    store: str
    path: str
    name: str
    size: int
    content_version: str
    traceparent: str | None
    attempt: int
    lease_token: int
    expires_in_s: float
    waited_s: float
    response_id: UUID
    folder: str
    response_store: str = "local"
    redrives: int = 0
    inline_body: str | None = None
    object_id: str | None = None
    is_suspect: bool = False
    """Its worker died with it more than once."""


class Finish(NamedTuple):
    """The end of a job as its worker sees it."""

    job_id: UUID
    lease_token: int
    status: Literal["done", "dead"]
    error: str | None = None


class Cancelled(NamedTuple):
    """A job that was ended by someone else than its worker."""

    job_id: UUID
    device_id: str
    name: str
    store: str
    path: str
    traceparent: str | None
    redrives: int = 0


class InlineJob(NamedTuple):
    """A request that came with the call, as text, from `requested_by`.

    Of a device's jobs with one `unique_key` only one has not ended.
    """

    job_id: UUID
    queue: str
    kind: str
    device_id: str
    store: str
    path: str
    name: str
    size: int
    content_version: str
    body: str
    requested_by: str
    priority: int = 0
    unique_key: str | None = None


class Depth(NamedTuple):
    """What waits in a queue; no more than DEPTH_MAX are counted."""

    waiting: int
    oldest_s: float


class Job(NamedTuple):
    """A job's row."""

    job_id: UUID
    queue: str
    kind: str
    device_id: str
    store: str
    path: str
    name: str
    size: int
    content_version: str
    current_status: JobStatus
    attempts: int
    lease_token: int
    worker: str | None
    error: str | None
    detected_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class StatusRow(NamedTuple):
    """One line of a job's history."""

    ts: datetime
    status: JobStatus
    worker: str | None
    detail: str | None


async def insert_jobs(connection: Connection, new: Sequence[NewJob]) -> None:
    """Queue jobs in the caller's transaction; the hint goes out after its commit."""
    if new:
        await connection.execute(_SQL["insert"], *(list(column) for column in zip(*new, strict=True)))


async def claim(
    pool: Pool,
    queue: str,
    worker: str,
    *,
    limit: int,
    lease_s: float,
    ttl_s: float,
    reserve: responses.Reserve,
    turns: Turns | None = None,
    device_limit: int = 0,
    suspects: int = 1,
) -> list[Claimed]:
    """Take up to `limit` jobs, due ones and those whose worker is silent, each with its response reserved.

    Those whose worker is silent come first. Of due ones, those of the highest priority, round the devices; `turns` says
    where this worker's last claim ended, and after this one whether there may be more. Of one device no more than
    `device_limit` run at once (0: no bound): two claims of one device's jobs do not happen at once, so none adds to
    what another counted. Of those whose workers died with them more than once at most `suspects` are taken. `reserve`
    names the folder for a job that has none yet; one that has keeps it. `ttl_s` runs from the first claim.
    """
    turns = turns or Turns()
    turn = turns.turn(limit)

    async def work(connection: Connection) -> tuple[Any, list[Claimed], bool, bool]:
        walk = await connection.fetchrow(
            _SQL["walk"], queue, limit, device_limit, *turns.stands, turn, turns.steps(limit)
        )
        bounds = limit, lease_s, ttl_s, device_limit
        rows = await connection.fetch(
            _SQL["claim"], queue, worker, *bounds, walk["rank"], walk["devices"] or [], suspects
        )
        homeless = [row for row in rows if row["folder"] is None]
        homes: dict[UUID, responses.Home] = {}
        if homeless:
            asked = [responses.Request(*(row[key] for key in responses.Request._fields)) for row in homeless]
            homes = await responses.reserve(connection, asked, reserve)
        claimed = [Claimed(*_with_home(tuple(row)[:-2], homes.get(row["job_id"]))) for row in rows]
        return walk, claimed, any(row["more"] for row in rows), any(row["held_back"] for row in rows)

    walk, claimed, cut, at_bound = await pool.run(work)
    devices = walk["devices"] or []
    odd = limit % len(devices) if len(devices) < limit and devices else 0
    # Those that had one job more than the others stand behind them the next time.
    turns.walked(walk["last_rank"], devices[odd - 1] if odd else walk["last_device"])
    turns.claimed(len(claimed), turn=turn, unseen=cut or walk["unseen"], rivals=walk["rivals"])
    turns.held_back = at_bound or walk["held_back"]
    return claimed


def _with_home(row: tuple[Any, ...], home: responses.Home | None) -> tuple[Any, ...]:
    """The row with the home that was just reserved, unless it had one."""
    return row if home is None else (*row[:-7], home.response_id, home.folder, home.store, *row[-4:])


async def renew(pool: Pool, held: Sequence[tuple[UUID, int]], *, lease_s: float) -> set[UUID]:
    """Extend leases (job, token). What is missing from the answer is lost."""
    if not held:
        return set()
    job_ids, tokens = zip(*held, strict=True)
    return {row["job_id"] for row in await pool.fetch(_SQL["renew"], list(job_ids), list(tokens), lease_s)}


async def cancelled(pool: Pool, held: Sequence[UUID]) -> set[UUID]:
    """Those of these jobs that were cancelled: sooner known than by the renewal that does not find them."""
    return {row["job_id"] for row in await pool.fetch(_SQL["cancelled"], list(held))} if held else set()


async def finish(connection: Connection, ends: Sequence[Finish]) -> dict[UUID, float]:
    """End jobs in the caller's transaction. Only what is returned was still the caller's.

    With each comes how many seconds ago its file was detected.
    """
    if not ends:
        return {}
    columns = [list(column) for column in zip(*ends, strict=True)]
    return {row["job_id"]: row["age_s"] for row in await connection.fetch(_SQL["finish"], *columns)}


async def retry(pool: Pool, job_id: UUID, lease_token: int, *, error: str, delay_s: float, counts: bool = True) -> bool:
    """Queue a failed job again; not every attempt counts. False when it was no longer the caller's."""
    return bool(await pool.fetch(_SQL["retry"], job_id, lease_token, error, delay_s, counts))


async def release(pool: Pool, held: Sequence[tuple[UUID, int]]) -> set[UUID]:
    """Give jobs back unfinished, to be claimed at once; the attempt does not count."""
    if not held:
        return set()
    job_ids, tokens = zip(*held, strict=True)
    return {row["job_id"] for row in await pool.fetch(_SQL["release"], list(job_ids), list(tokens))}


async def cancel(
    pool: Pool,
    job_id: UUID,
    *,
    reason: str,
    detail: str | None = None,
    response_id: UUID,
    announce: Callable[[Cancelled], log.NewEvent],
) -> tuple[log.NewEvent, log.Appended] | None:
    """End a job that has not ended, and tell its device. None when there was nothing to end.

    `reason` is for the device, `detail` (else the same) for the job's history. `response_id` is for one that no worker
    reserved one for: its end belongs in the device's list of responses as any other. `announce` makes the event; the
    caller offers what is returned to the bus.
    """

    async def work(connection: Connection) -> tuple[log.NewEvent, log.Appended] | None:
        row = await connection.fetchrow(_SQL["cancel"], job_id, reason, detail or reason)
        if row is None:
            return None
        cancelled = Cancelled(*row)
        event = announce(cancelled)
        request = responses.Request(job_id, cancelled.device_id, cancelled.store, cancelled.name)
        home = responses.Home(response_id, cancelled.store, responses.folder_of(request))
        await responses.reserve(connection, [request], lambda _: home)
        await responses.complete(connection, [responses.Completion(job_id, "failed", reason, event.event_id)], [])
        return event, (await log.append(connection, [event]))[0]

    ended = await pool.run(work)
    if ended is None:
        return None
    event, appended = ended
    log.remember(pool, [event], [appended])
    return event, appended


async def redrive(pool: Pool, job_id: UUID, *, detail: str) -> str | None:
    """Queue a dead job anew; returns its queue, for the hint. None when there was no dead one.

    Its device was told that it failed, and is told again how it ends: `redrives` makes that another event. Raises
    UniqueKeyTaken when another job has its unique key now.
    """

    async def work(connection: Connection) -> str | None:
        queue: str | None = await connection.fetchval(_SQL["redrive"], job_id, detail)
        if queue is not None:
            await responses.reopen(connection, job_id)
        return queue

    try:
        return await pool.run(work)
    except asyncpg.UniqueViolationError as error:
        raise UniqueKeyTaken from error


async def insert_inline(pool: Pool, job: InlineJob) -> Literal["made", "known", "taken", "unknown_device"]:
    """Queue a job whose request is in its row. `known`: an earlier try did, and its answer was lost.

    `taken`: another one had its unique key and had not ended (see `unfinished`).
    """
    if await pool.fetch(_SQL["insert_inline"], *job, repeatable=True):
        return "made"
    why: Literal["known", "taken", "unknown_device"] = (
        await pool.fetch(_SQL["why_not_made"], job.job_id, job.device_id)
    )[0][0]
    return why


async def unfinished(pool: Pool, device_id: str, unique_key: str) -> UUID | None:
    """The device's job with this key that has not ended."""
    rows = await pool.fetch(_SQL["unfinished"], device_id, unique_key)
    return rows[0]["job_id"] if rows else None


async def depth(pool: Pool, queue: str) -> Depth:
    """What waits in a queue and could run."""
    return Depth(*(await pool.fetch(_SQL["depth"], queue, DEPTH_MAX))[0])


async def get(pool: Pool, job_id: UUID) -> Job | None:
    """The job, or None."""
    rows = await pool.fetch(_SQL["get"], job_id)
    return Job(*rows[0]) if rows else None


async def history(pool: Pool, job_id: UUID, *, limit: int = 100) -> list[StatusRow]:
    """Every change of the job's state, newest first."""
    return [StatusRow(*row) for row in await pool.fetch(_SQL["history"], job_id, limit)]
