"""Jobs: lists, one with its history, and what may be done with it."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from api.description import Answer, Description, Parameter
from api.descriptions.common import DeviceId, FileName, Moment, Uuid
from api.descriptions.devices import ResponseFile
from api.descriptions.parameters import DEVICE_ID, PAGE
from shared.store.jobs import JobStatus
from shared.store.turns import PRIORITY_MAX, PRIORITY_MIN

__all__ = [
    "CANCEL",
    "FILES",
    "HISTORY",
    "LIST_JOBS",
    "POST_JOB",
    "READ_JOB",
    "REDRIVE",
    "Job",
    "JobBody",
    "JobChange",
    "JobFiles",
    "JobHistory",
    "JobSummary",
    "JobsPage",
]

_Kind = Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z0-9][a-z0-9_-]{0,63}$", "maxLength": 64})]
_UniqueKey = Annotated[
    str, Meta(extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$", "maxLength": 128})
]
_Instant = Annotated[datetime, Meta(tz=True)]


class JobBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A request without a file. `data` is what the file would hold, at most 64 KiB: text, or JSON.

    `priority`, higher first, is for operators and services; it is the kind's unless given. While a job of the device
    with the same `unique_key` has not ended, that one is the answer, whatever else is asked for.
    """

    device_id: DeviceId
    kind: _Kind
    name: FileName
    data: str | dict[str, Any] | list[Any]
    priority: Annotated[int, Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)] | None = None
    unique_key: _UniqueKey | None = None


class JobSummary(Struct, frozen=True):
    """A job as lists show it."""

    job_id: Uuid
    device_id: DeviceId
    kind: str
    name: str
    status: JobStatus
    attempts: int
    size: int
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


class Job(JobSummary, frozen=True):
    """A job, and how its response ended if it has."""

    queue: str
    error: str | None
    worker: str | None
    requested_by: str | None
    redrives: int
    detected_at: Moment | None
    run_at: Moment | None
    give_up_at: Moment | None
    outcome: Literal["ready", "failed"] | None
    event_id: str | None
    priority: int
    unique_key: str | None


class JobsPage(Struct, frozen=True):
    """Jobs. A page may be short or empty and still have a `next`, the `cursor` of the following one."""

    jobs: list[JobSummary]
    next: str | None


class JobChange(Struct, frozen=True):
    """One change of a job's state."""

    at: Moment
    status: JobStatus
    worker: str | None
    detail: str | None


class JobHistory(Struct, frozen=True):
    """Changes, newest first."""

    history: list[JobChange]
    next: str | None


class JobFiles(Struct, frozen=True):
    """The files of a job's response; none before it is finished."""

    files: list[ResponseFile]


LIST_JOBS: Final = Description(
    id="listJobs",
    summary="Jobs by status, kind, device, time or name",
    about=(
        "By time: any two of `status`, `kind` and `device_id`, with a range. By name: `name_prefix` and nothing else, "
        "and not for one device. Other combinations are refused."
    ),
    query=(
        Parameter(name="status", kind=JobStatus, about="In this state.", example="queued"),
        Parameter(
            name="kind",
            kind=Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 64, "pattern": r"^[^\u0000]+$"})],
            about="Of this kind, such as `photo` or `table`.",
        ),
        DEVICE_ID,
        Parameter(name="created_from", kind=_Instant, about="Not before this time, which has its zone."),
        Parameter(name="created_to", kind=_Instant, about="Before this time."),
        Parameter(
            name="name_prefix",
            kind=Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 200, "pattern": r"^[^\u0000]+$"})],
            about="How the name begins, as bytes compare; sorts by name.",
        ),
        Parameter(name="sort", kind=Literal["created_at", "name"], about="What they are sorted by."),
        Parameter(
            name="order",
            kind=Literal["asc", "desc"],
            about="`desc` unless given when sorted by `created_at`, `asc` by `name`.",
        ),
        *PAGE,
    ),
    headers=("Fleetwire-Read-After",),
    answers={200: Answer("A page.", JobsPage)},
)
READ_JOB: Final = Description(
    id="readJob",
    summary="A job, with all there is to say about it",
    answers={200: Answer("The job.", Job)},
    problems=("not-found",),
)
HISTORY: Final = Description(
    id="listJobHistory",
    summary="Every change of a job's state",
    query=PAGE,
    answers={200: Answer("A page, newest first.", JobHistory)},
    problems=("not-found",),
)
FILES: Final = Description(
    id="listJobFiles",
    summary="The files that a job made",
    answers={200: Answer("The files.", JobFiles)},
    problems=("not-found",),
)
POST_JOB: Final = Description(
    id="postJob",
    summary="Ask for a job without a file",
    about="The id of the job follows from the caller and the key: send the same again whenever the answer was lost.",
    answers={
        200: Answer("The job of the device that has the unique key and has not ended.", Job, headers=("Location",)),
        201: Answer("The job, also when an earlier try made it.", Job, headers=("Location",)),
    },
    problems=("not-found", "idempotency-key-reused"),
    body_example={"device_id": "truck-7", "kind": "table", "name": "load.csv", "data": "sku,count\nA-1,12\n"},
)
CANCEL: Final = Description(
    id="cancelJob",
    summary="End a job that waits or runs",
    answers={200: Answer("The job, cancelled now or before.", Job)},
    problems=("not-found", "wrong-state"),
)
REDRIVE: Final = Description(
    id="redriveJob",
    summary="Queue a dead job anew",
    answers={200: Answer("The job, queued.", Job)},
    problems=("not-found", "wrong-state"),
)
