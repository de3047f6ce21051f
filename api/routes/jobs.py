"""Jobs as lists, each with its history: for operators and services all of them, for a device its own."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from api.answers import moment, typed_answer
from api.descriptions.devices import ResponseFile
from api.descriptions.jobs import (
    FILES,
    HISTORY,
    LIST_JOBS,
    READ_JOB,
    Job,
    JobChange,
    JobFiles,
    JobHistory,
    JobsPage,
    JobSummary,
)
from api.inputs import device_id_of, uuid_of
from api.job_list import CREATED_MAX, SORTS, STATUSES, JobKey, JobQuestion, NotAllowed, identity, key_of, plan
from api.pagination import InvalidCursor, SignedCursors
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.shedding import Shed
from shared.protocol.ids import FILE_NAME_MAX_BYTES
from shared.store import fleet_view, job_list
from shared.store.job_list import HistoryRow, JobDetail, JobRow
from shared.store.pool import Pool
from shared.store.replicas import Replicas
from shared.tokens import Scope

__all__ = ["JOB_SCOPES", "KIND_MAX_LENGTH", "Jobs", "own_job", "shown_job"]

JOB_SCOPES: Final[frozenset[Scope]] = frozenset({"device", "operator", "service"})
LIMIT_DEFAULT: Final = 100
KIND_MAX_LENGTH: Final = 64


class Jobs:
    """`GET /api/v1/jobs`, and of one job `GET /api/v1/jobs/{job_id}`, its `…/history` and its `…/files`"""

    def __init__(self, pool: Pool, replicas: Replicas, cursors: SignedCursors, *, page_max: int) -> None:
        self._pool = pool
        self._replicas = replicas
        self._cursors = cursors
        self._page_max = min(page_max, job_list.LIMIT_MAX)

    @property
    def page_operation(self) -> Operation:
        """`GET` of the list, for the resource that also takes new jobs."""
        return Operation(self.page, JOB_SCOPES, description=LIST_JOBS, shed=Shed.FIRST)

    def resources(self, guard: Guard) -> Sequence[Resource]:
        """For the route table, but for the list itself."""
        read = Operation(self.read, JOB_SCOPES, description=READ_JOB)
        history = Operation(self.history, JOB_SCOPES, description=HISTORY, shed=Shed.FIRST)
        files = Operation(self.files, JOB_SCOPES, description=FILES)
        return [
            Resource(guard, "/api/v1/jobs/{job_id}", {"GET": read}),
            Resource(guard, "/api/v1/jobs/{job_id}/files", {"GET": files}),
            Resource(guard, "/api/v1/jobs/{job_id}/history", {"GET": history}),
        ]

    async def page(self, call: Call) -> Response:
        """A page. It may be short, even empty, and still have a next one: then a walk came to its bound."""
        question = _question(call)
        sort, filters = identity(question)
        text = call.query.text("cursor")
        after: JobKey | None = None
        try:
            if text is not None and question.sort == "name":
                after = self._cursors.read(text, sort, filters, (str, UUID))
            elif text is not None:
                after = self._cursors.read(text, sort, filters, (datetime, UUID))
            walk = plan(question, after)
        except InvalidCursor as error:
            raise Problem("invalid-parameter", str(error), field="cursor") from None
        except NotAllowed as error:
            raise Problem("invalid-parameter", str(error), field=error.field) from None
        found = await job_list.page(self._replicas.after(call.read_after), walk, limit=self._limit(call))
        following = None
        if found.last is not None:
            following = self._cursors.sign(sort, filters, key_of(question, found.last))
        return typed_answer(JobsPage([JobSummary(**_summary(row)) for row in found.rows], following))

    async def read(self, call: Call) -> Response:
        """One job, with all there is to say about it."""
        return typed_answer(shown_job(await own_job(self._pool, call)))

    async def history(self, call: Call) -> Response:
        """A page of its changes of state, newest first."""
        limit = self._limit(call)
        before = (CREATED_MAX, 0)
        job_id = uuid_of(call.path["job_id"], "job_id")
        sort, filters = "job_history", {"job_id": str(job_id)}
        if (text := call.query.text("cursor")) is not None:
            try:
                before = self._cursors.read(text, sort, filters, (datetime, int))
            except InvalidCursor as error:
                raise Problem("invalid-parameter", str(error), field="cursor") from None
        await own_job(self._pool, call)
        rows = await job_list.history(self._pool, job_id, before=before, limit=limit + 1)
        shown = rows[:limit]
        following = None
        if len(rows) > limit:
            following = self._cursors.sign(sort, filters, (shown[-1].ts, shown[-1].id))
        return typed_answer(JobHistory([_shown_change(row) for row in shown], following))

    async def files(self, call: Call) -> Response:
        """What its response holds."""
        job = await own_job(self._pool, call)
        rows = await fleet_view.job_files(self._pool, job.row.job_id)
        shown = [
            ResponseFile(
                str(row.file_id), row.name, row.size, row.sha256, row.content_type, f"/api/v1/files/{row.file_id}"
            )
            for row in rows
        ]
        return typed_answer(JobFiles(shown))

    def _limit(self, call: Call) -> int:
        return call.query.integer("limit", default=min(LIMIT_DEFAULT, self._page_max), low=1, high=self._page_max)


async def own_job(pool: Pool, call: Call) -> JobDetail:
    """The job in the path. Raises Problem (404) when there is none that the caller may see."""
    job = await job_list.job(pool, uuid_of(call.path["job_id"], "job_id"))
    if job is None or _only_device(call) not in (None, job.row.device_id):
        raise Problem("not-found", "there is no such job")
    call.trace.device_id = job.row.device_id
    return job


def shown_job(job: JobDetail) -> Job:
    """A job as `GET /api/v1/jobs/{job_id}` and every change of it answers."""
    return Job(
        **_summary(job.row),
        queue=job.queue,
        error=job.error,
        worker=job.worker,
        requested_by=job.requested_by,
        redrives=job.redrives,
        detected_at=moment(job.detected_at),
        run_at=moment(job.run_at),
        give_up_at=moment(job.give_up_at),
        outcome=job.outcome,  # type: ignore[arg-type]  # the table allows these two
        event_id=job.event_id,
        priority=job.priority,
        unique_key=job.unique_key,
    )


def _only_device(call: Call) -> str | None:
    """The device that the caller is, when it is nothing more than that."""
    claims = call.claims
    return None if claims.allows("operator") or claims.allows("service") else claims.subject


def _question(call: Call) -> JobQuestion:
    """What is asked for. Raises Problem (400, 403)."""
    query = call.query
    prefix = _text(call, "name_prefix", FILE_NAME_MAX_BYTES)
    sort = query.choice("sort", SORTS) or ("created_at" if prefix is None else "name")
    order = query.choice("order", ("asc", "desc")) or ("desc" if sort == "created_at" else "asc")
    device_id = query.text("device_id")
    only_device = _only_device(call)
    if device_id is not None and device_id_of(device_id) and only_device not in (None, device_id):
        raise Problem("forbidden", "a device's token reaches the jobs of that device only", field="device_id")
    return JobQuestion(
        status=query.choice("status", STATUSES),  # type: ignore[arg-type]  # one of them, as was just checked
        kind=_text(call, "kind", KIND_MAX_LENGTH),
        device_id=device_id,
        created_from=query.moment("created_from"),
        created_to=query.moment("created_to"),
        name_prefix=prefix,
        sort=sort,  # type: ignore[arg-type]
        descending=order == "desc",
        only_device=only_device,
    )


def _text(call: Call, name: str, max_bytes: int) -> str | None:
    """Text that Postgres can compare with."""
    text = call.query.text(name)
    if text is None:
        return None
    if "\x00" in text or not 1 <= len(text.encode()) <= max_bytes:
        raise Problem("invalid-parameter", f"{name} must be 1 to {max_bytes} bytes of text without NUL", field=name)
    return text


def _summary(row: JobRow) -> dict[str, Any]:
    return {
        "job_id": str(row.job_id),
        "device_id": row.device_id,
        "kind": row.kind,
        "name": row.name,
        "status": row.status,
        "attempts": row.attempts,
        "size": row.size,
        "created_at": moment(row.created_at),
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
    }


def _shown_change(row: HistoryRow) -> JobChange:
    return JobChange(moment(row.ts), row.status, row.worker, row.detail)
