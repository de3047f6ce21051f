"""Inspections: begun by whoever inspects, judged by operators."""

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from api.description import Answer, Description, Parameter
from api.descriptions.common import Moment, Printable, Uuid
from api.descriptions.parameters import PAGE
from shared.inspections import Status
from shared.protocol.operations import Answers, InspectionState, Title, Version

__all__ = [
    "APPROVE_INSPECTION",
    "CREATE_INSPECTION",
    "DELETE_INSPECTION",
    "LIST_INSPECTIONS",
    "READ_INSPECTION",
    "REJECT_INSPECTION",
    "REOPEN_INSPECTION",
    "SUBMIT_INSPECTION",
    "UPDATE_INSPECTION",
    "InspectionSummary",
    "InspectionsPage",
    "NewInspection",
]

_Instant = Annotated[datetime, Meta(tz=True)]
_Flag = Literal["true", "false"]


class NewInspection(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A draft by a template, in its newest version unless another is named. With an id of yours it may be repeated."""

    template_id: Uuid
    title: Title
    answers: Answers
    template_version: Version | None = None
    inspection_id: Uuid | None = None


class InspectionSummary(Struct, frozen=True):
    """An inspection as lists show it."""

    inspection_id: Uuid
    inspector_id: str
    template_id: Uuid
    template_version: int
    status: Status
    title: str
    version: int
    is_deleted: bool
    created_at: Moment
    updated_at: Moment
    submitted_at: Moment | None
    decided_at: Moment | None
    decided_by: str | None


class InspectionsPage(Struct, frozen=True):
    """Inspections. `next` is the `cursor` of the following page."""

    inspections: list[InspectionSummary]
    next: str | None


_CHANGED: Final = {200: Answer("The inspection as it is now.", InspectionState, headers=("ETag",))}
_REFUSED: Final = ("not-found", "precondition-failed", "precondition-required", "unprocessable", "keys-spent")

LIST_INSPECTIONS: Final = Description(
    id="listInspections",
    summary="Inspections by inspector, template, status or time",
    about=(
        "One of `inspector_id`, `template_id` and `is_deleted`, each with or without `status` and a range of creation; "
        "or a range of submission alone. Devices are listed their own. Other combinations are refused. Those that "
        "were deleted are among them, and marked, unless `is_deleted` says otherwise."
    ),
    query=(
        Parameter(name="inspector_id", kind=Printable, about="Whose.", example="truck-7"),
        Parameter(name="template_id", kind=Uuid, about="Made by this template, in whichever version."),
        Parameter(name="is_deleted", kind=_Flag, about="Deleted, or not."),
        Parameter(name="status", kind=Status, about="In this status.", example="draft"),
        Parameter(name="created_from", kind=_Instant, about="Not before this time, which has its zone."),
        Parameter(name="created_to", kind=_Instant, about="Before this time."),
        Parameter(name="submitted_from", kind=_Instant, about="Submitted not before this time; sorts by it."),
        Parameter(name="submitted_to", kind=_Instant, about="Submitted before this time; sorts by it."),
        Parameter(name="sort", kind=Literal["created_at", "submitted_at"], about="What they are sorted by."),
        Parameter(name="order", kind=Literal["asc", "desc"], about="`desc`, the newest first, unless given."),
        *PAGE,
    ),
    headers=("Fleetwire-Read-After",),
    answers={200: Answer("A page.", InspectionsPage)},
)
READ_INSPECTION: Final = Description(
    id="readInspection",
    summary="An inspection with its answers",
    query=(
        Parameter(name="is_deleted", kind=_Flag, about="`true` shows it also when it was deleted, not to devices."),
    ),
    headers=("If-None-Match",),
    answers={
        200: Answer("The inspection.", InspectionState, headers=("ETag",)),
        304: Answer("The client has it.", headers=("ETag",)),
    },
    problems=("not-found",),
)
CREATE_INSPECTION: Final = Description(
    id="createInspection",
    summary="Begin an inspection",
    answers={201: Answer("The draft.", InspectionState, headers=("Location", "ETag"))},
    problems=("inspection-exists", "unprocessable", "keys-spent"),
    body_example={
        "template_id": "0198b7c2-0000-7000-8000-0000000000c1",
        "title": "Truck 7, morning",
        "answers": {"lights": "ok"},
    },
)
UPDATE_INSPECTION: Final = Description(
    id="updateInspection",
    summary="Change a draft",
    about="`answers` is a merge patch (RFC 7396): null takes an answer away.",
    headers=("If-Match",),
    answers=_CHANGED,
    problems=_REFUSED,
    body_example={"answers": {"lights": "broken", "brakes": None}},
)
SUBMIT_INSPECTION: Final = Description(
    id="submitInspection", summary="Hand in a draft", headers=("If-Match",), answers=_CHANGED, problems=_REFUSED
)
APPROVE_INSPECTION: Final = Description(
    id="approveInspection",
    summary="Accept what was submitted",
    headers=("If-Match",),
    answers=_CHANGED,
    problems=_REFUSED,
    body_example={"note": "thanks"},
)
REJECT_INSPECTION: Final = Description(
    id="rejectInspection",
    summary="Send back what was submitted",
    headers=("If-Match",),
    answers=_CHANGED,
    problems=_REFUSED,
    body_example={"note": "the photo of the brakes is missing"},
)
REOPEN_INSPECTION: Final = Description(
    id="reopenInspection",
    summary="Make a draft of what was rejected",
    headers=("If-Match",),
    answers=_CHANGED,
    problems=_REFUSED,
)
DELETE_INSPECTION: Final = Description(
    id="deleteInspection",
    summary="Mark an inspection as deleted",
    headers=("If-Match",),
    answers={204: Answer("It is marked.")},
    problems=_REFUSED,
)
