"""What people and devices do with jobs: ask for one without a file, cancel one, queue a dead one anew.

All three are safe to repeat when an answer was lost. A new job needs an Idempotency-Key, and its id follows from the
claim of that key: so a request that is tried again, by whichever instance and after whatever crash, is the same job.
Cancelling what is cancelled changes nothing, and only a dead job is queued anew.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from random import Random
from typing import Any, Final
from uuid import UUID

import orjson
from starlette.responses import Response

from api.answers import typed_answer
from api.descriptions.jobs import CANCEL, POST_JOB, REDRIVE, JobBody
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.routes.jobs import JOB_SCOPES, KIND_MAX_LENGTH, Jobs, own_job, shown_job
from api.small_jobs import SmallJobs
from shared.bus.hints import HintOffers
from shared.bus.message import EVENT, Message
from shared.bus.publisher import Publisher
from shared.clock import iso, wall
from shared.job_events import request_failed
from shared.job_kinds import JobKinds
from shared.protocol.ids import device_id_problem, file_name_problem, time_ordered_uuid
from shared.store import devices, job_list, jobs
from shared.store.errors import UniqueKeyTaken
from shared.store.jobs import Cancelled, InlineJob
from shared.store.log import NewEvent
from shared.store.pool import Pool

__all__ = ["DATA_MAX_BYTES", "JobCommands", "content_of", "kind_problem"]

SOURCE: Final = "/fleetwire/api"
_KINDS: Final = {"device": "the device", "operator": "an operator", "service": "a service"}
DATA_MAX_BYTES: Final = 64 * 1024
_UNIQUE_TRIES: Final = 5
_UNIQUE_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_KIND: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{KIND_MAX_LENGTH - 1}}}", re.ASCII)


class JobCommands:
    """`POST /api/v1/jobs`, `POST /api/v1/jobs/{job_id}/cancel`, `POST /api/v1/jobs/{job_id}/redrive`"""

    def __init__(
        self,
        pool: Pool,
        publisher: Publisher,
        hints: HintOffers,
        small: SmallJobs,
        *,
        kinds: JobKinds,
        store: str,
        rand: Random,
    ) -> None:
        self._pool = pool
        self._publisher = publisher
        self._hints = hints
        self._small = small
        self._kinds = kinds
        self._store = store
        self._rand = rand

    def resources(self, guard: Guard, listed: Jobs) -> Sequence[Resource]:
        """For the route table. `listed` answers `GET` of the path that takes new jobs."""
        # Escapes may make the body several times as long as the data is.
        post = Operation(
            self.post,
            JOB_SCOPES,
            body=JobBody,
            body_max_bytes=8 * DATA_MAX_BYTES,
            idempotency="required",
            description=POST_JOB,
        )
        cancel = Operation(self.cancel, JOB_SCOPES, idempotency="optional", description=CANCEL)
        redrive = Operation(self.redrive, frozenset({"operator"}), idempotency="optional", description=REDRIVE)
        return [
            Resource(guard, "/api/v1/jobs", {"GET": listed.page_operation, "POST": post}),
            Resource(guard, "/api/v1/jobs/{job_id}/cancel", {"POST": cancel}),
            Resource(guard, "/api/v1/jobs/{job_id}/redrive", {"POST": redrive}),
        ]

    async def post(self, call: Call) -> Response:
        """Queue a job whose request is in the call."""
        body: JobBody = call.body
        if call.once is None:
            raise AssertionError("the operation requires a key")
        _check(call, body)
        text = content_of(body.data)
        content = text.encode()
        principal = call.claims.principal
        queue = self._kinds.queue_of(body.kind)
        job = InlineJob(
            call.once.uuid("job"),
            queue,
            body.kind,
            body.device_id,
            self._store,
            "",
            body.name,
            len(content),
            sha256(content).hexdigest(),
            text,
            principal,
            self._kinds.priority_of(body.kind) if body.priority is None else body.priority,
            body.unique_key,
        )
        result = await jobs.insert_inline(self._pool, job)
        if result == "unknown_device" and call.claims.allows("device") and call.claims.subject == body.device_id:
            await devices.ensure(self._pool, body.device_id, call.claims.device_class or devices.DEFAULT_CLASS)
            result = await jobs.insert_inline(self._pool, job)
        if result == "unknown_device":
            raise Problem("not-found", "there is no such device", field="device_id")
        for _ in range(_UNIQUE_TRIES):
            if result != "taken" or job.unique_key is None:
                break
            if (other := await jobs.unfinished(self._pool, job.device_id, job.unique_key)) is not None:
                return await self._answer(other, 200, _location(other))
            result = await jobs.insert_inline(self._pool, job)  # it ended meanwhile
        else:
            raise Problem("unavailable", "jobs with this unique_key come and go: try again", retry_after_s=1.0)
        self._hints.offer(queue, job.job_id)
        self._small.offer(job.job_id, body.kind)
        return await self._answer(job.job_id, 201, _location(job.job_id))

    async def cancel(self, call: Call) -> Response:
        """End the job and tell its device. The worker that runs it asks for that every second."""
        job = await own_job(self._pool, call)
        by = call.claims.principal
        # Who exactly is for the history; devices are not told the names of people.
        reason = f"cancelled by {_KINDS[by.partition(':')[0]]}"
        ended = await jobs.cancel(
            self._pool,
            job.row.job_id,
            reason=reason,
            detail=f"cancelled by {by}",
            response_id=time_ordered_uuid(wall(), self._rand),
            announce=lambda cancelled: self._failed(cancelled, reason),
        )
        if ended is None:
            now = await own_job(self._pool, call)
            if now.row.status != "cancelled":
                raise _wrong_state(f"the job is {now.row.status}: there is nothing to cancel", now.row.status)
        else:
            event, appended = ended
            if appended.status == "recorded":
                self._publisher.offer(Message(EVENT, event.device_id, appended.epoch, appended.seq, event.body))
        return await self._answer(job.row.job_id)

    async def redrive(self, call: Call) -> Response:
        """Queue a dead job anew: fresh attempts, fresh time to live, and one more event when it ends."""
        job = await own_job(self._pool, call)
        try:
            queue = await jobs.redrive(self._pool, job.row.job_id, detail=f"queued anew by {call.claims.principal}")
        except UniqueKeyTaken as error:
            raise _wrong_state(str(error), job.row.status) from None
        if queue is None:
            now = await own_job(self._pool, call)
            raise _wrong_state(f"the job is {now.row.status}: only a dead one is queued anew", now.row.status)
        self._hints.offer(queue, job.row.job_id)
        return await self._answer(job.row.job_id)

    async def _answer(self, job_id: UUID, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        job = await job_list.job(self._pool, job_id)
        if job is None:
            raise Problem("not-found", "there is no such job any more")
        return typed_answer(shown_job(job), status, headers)

    def _failed(self, job: Cancelled, reason: str) -> NewEvent:
        return request_failed(
            event_id=time_ordered_uuid(wall(), self._rand),
            job_id=job.job_id,
            device_id=job.device_id,
            request_name=job.name,
            reason=reason,
            source=SOURCE,
            time=iso(wall()),
            traceparent=job.traceparent,
            redrives=job.redrives,
        )


def _check(call: Call, body: JobBody) -> None:
    """Raises Problem (400, 403) naming the member."""
    claims = call.claims
    if problem := device_id_problem(body.device_id):
        raise Problem("invalid-body", problem, field="device_id")
    if claims.subject != body.device_id and not (claims.allows("operator") or claims.allows("service")):
        raise Problem("forbidden", "a device asks for jobs of its own only", field="device_id")
    call.trace.device_id = body.device_id
    if problem := kind_problem(body.kind):
        raise Problem("invalid-body", problem, field="kind")
    if problem := file_name_problem(body.name):
        raise Problem("invalid-body", f"name: {problem}", field="name")
    if body.priority is not None and not (claims.allows("operator") or claims.allows("service")):
        raise Problem("forbidden", "only operators and services give jobs a priority", field="priority")
    if body.unique_key is not None and body.unique_key.startswith("schedule:"):
        raise Problem("invalid-body", "keys that begin with schedule: are those of schedules", field="unique_key")
    if body.unique_key is not None and _UNIQUE_KEY.fullmatch(body.unique_key) is None:
        detail = "unique_key must be 1 to 128 characters of A-Z a-z 0-9 . _ : -, and begin with a letter or a digit"
        raise Problem("invalid-body", detail, field="unique_key")


def kind_problem(kind: str) -> str | None:
    """What is wrong with the name of a kind."""
    if _KIND.fullmatch(kind) is None:
        return f"kind must be 1 to {KIND_MAX_LENGTH} characters of a-z 0-9 _ -, such as table"
    return None


def content_of(data: Any) -> str:
    """What the handler finds in its file: text as it is, anything else as JSON."""
    try:
        text = data if isinstance(data, str) else orjson.dumps(data).decode()
        size = len(text.encode())
    except (TypeError, ValueError) as error:
        raise Problem("invalid-body", f"data: cannot be encoded: {error}", field="data") from None
    if "\x00" in text:
        raise Problem("invalid-body", "data: holds a NUL character; send binary requests as files", field="data")
    if size > DATA_MAX_BYTES:
        detail = f"data: has {size} bytes; use at most {DATA_MAX_BYTES}, or send a file"
        raise Problem("invalid-body", detail, field="data")
    return text


def _location(job_id: UUID) -> dict[str, str]:
    return {"Location": f"/api/v1/jobs/{job_id}"}


def _wrong_state(detail: str, status: str) -> Problem:
    return Problem("wrong-state", detail, state=status)
