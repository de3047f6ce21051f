"""Where one file, job or event is, and its way there."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from api.description import Answer, Description, Parameter
from api.descriptions.common import DeviceId, Moment, Uuid

__all__ = ["TRACE_JOB", "TRACE_OF_DEVICE", "TraceAnswer", "TraceAt", "TraceStage"]


class TraceStage(Struct, frozen=True):
    """A stage that was reached, `lag_s` after the one before. Not `exact`: it was reached by then."""

    stage: str
    at: Moment
    lag_s: float
    exact: bool


class TraceAt(Struct, frozen=True):
    """Where it is now, since when and in whose hands. `stuck` says why it does not go on, null while all is well."""

    place: str
    since: Moment
    for_s: float
    holder: str | None
    stuck: str | None


class TraceAnswer(Struct, frozen=True):
    """The way of one file to its device's ack, as the database knows it. `trace_id` names its spans, if there are."""

    device_id: DeviceId
    job_id: Uuid | None
    name: str | None
    event_id: str | None
    seq: int | None
    trace_id: str | None
    stages: list[TraceStage]
    at: TraceAt


_Text = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 200, "pattern": r"^[^\u0000]+$"})]

_STAGES: Final = {200: Answer("Its stages in order of time, and where it is now.", TraceAnswer)}

TRACE_JOB: Final = Description(
    id="traceJob",
    summary="Where a job and its event are, since when, and who holds them",
    answers=_STAGES,
    problems=("not-found",),
)
TRACE_OF_DEVICE: Final = Description(
    id="traceOfDevice",
    summary="Where an event or a file of a device is, since when, and who holds it",
    query=(
        Parameter(
            name="of",
            kind=_Text,
            about="An event's id, among the device's newest 5,000; or a file's name, of which the newest job is meant.",
            example="load.csv",
            required=True,
        ),
    ),
    answers=_STAGES,
    problems=("not-found",),
)
