"""Which walk along which index answers a question for inspections [pure].

Every question that is allowed has one statement among fixed ones. What would need an index that is not there is
refused, and the refusal names what may be asked instead. The end of a range that a walk begins at is turned into a key,
as if a page had just ended there.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, get_args
from uuid import UUID

from api.job_list import CREATED_MAX, CREATED_MIN, NotAllowed
from shared.inspections import Status
from shared.store.inspections import ListedInspection, Walk

__all__ = ["SORTS", "STATUSES", "InspectionKey", "InspectionQuestion", "key_of", "plan"]

Sort = Literal["created_at", "submitted_at"]
SORTS: Final[tuple[str, ...]] = get_args(Sort)
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

InspectionKey: TypeAlias = tuple[datetime, UUID]
"""What a page is continued by: the time that is sorted by, and the id."""

_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=2**128 - 1)
_TICK: Final = timedelta(microseconds=1)
_ALLOWED: Final = (
    "allowed are inspector_id, template_id or is_deleted, each with or without status, created_from and created_to; "
    "or submitted_from and submitted_to alone"
)


@dataclass(frozen=True, slots=True)
class InspectionQuestion:
    """What is asked for. A range's beginning is part of it, its end is not.

    `only_inspector` is the device that may see no other's; it is no filter that the caller chose.
    """

    inspector_id: str | None = None
    template_id: UUID | None = None
    is_deleted: bool | None = None
    status: Status | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    submitted_from: datetime | None = None
    submitted_to: datetime | None = None
    sort: Sort = "created_at"
    descending: bool = True
    only_inspector: str | None = None


def plan(question: InspectionQuestion, after: InspectionKey | None = None) -> Walk:
    """The walk that answers it, from the beginning or after a key. Raises NotAllowed."""
    _check(question)
    order = "descending" if question.descending else "ascending"
    if question.sort == "submitted_at":
        return Walk(f"submitted_{order}", _key(question, question.submitted_from, question.submitted_to, after))
    key = _key(question, question.created_from, question.created_to, after)
    statuses = list(STATUSES) if question.status is None else [question.status]
    inspector_id = question.inspector_id or question.only_inspector
    if inspector_id is not None:
        return Walk(f"inspector_{order}", (inspector_id, *key, statuses))
    if question.template_id is not None:
        return Walk(f"template_{order}", (question.template_id, *key, statuses))
    if question.is_deleted is not None or question.status is not None:
        deleted = [False, True] if question.is_deleted is None else [question.is_deleted]
        pairs = [(one, status) for one in deleted for status in statuses]
        return Walk(f"status_{order}", ([one for one, _ in pairs], *key, [status for _, status in pairs]))
    return Walk(f"created_{order}", key)


def key_of(question: InspectionQuestion, row: ListedInspection) -> InspectionKey:
    """The key that continues after this row."""
    if question.sort == "created_at":
        return row.created_at, row.inspection_id
    assert row.submitted_at is not None, "a list by that time has only those that were submitted"
    return row.submitted_at, row.inspection_id


def _check(question: InspectionQuestion) -> None:
    chosen = [name for name in ("inspector_id", "template_id", "is_deleted") if getattr(question, name) is not None]
    created = [name for name in ("created_from", "created_to") if getattr(question, name) is not None]
    submitted = [name for name in ("submitted_from", "submitted_to") if getattr(question, name) is not None]
    if question.only_inspector is not None:
        if others := [name for name in chosen if name != "inspector_id"] + submitted:
            raise NotAllowed(
                others[0], f"{others[0]}: a device's own are listed by status, created_from and created_to"
            )
        if question.sort != "created_at":
            raise NotAllowed("sort", "sort: a device's own inspections are sorted by created_at; leave it out")
    elif question.sort == "submitted_at":
        if others := chosen + (["status"] if question.status is not None else []) + created:
            raise NotAllowed(others[0], f"{others[0]}: not with a list by submitted_at; {_ALLOWED}")
    elif submitted:
        raise NotAllowed(submitted[0], f"{submitted[0]}: only with a list by submitted_at; {_ALLOWED}")
    elif len(chosen) > 1:
        raise NotAllowed(chosen[-1], f"{chosen[-1]}: not together with {chosen[0]}; {_ALLOWED}")
    for low, high in (("created_from", "created_to"), ("submitted_from", "submitted_to")):
        begin, end = getattr(question, low), getattr(question, high)
        if begin is not None and end is not None and begin >= end:
            raise NotAllowed(high, f"{high} must be later than {low}")


def _key(
    question: InspectionQuestion, low: datetime | None, high: datetime | None, after: InspectionKey | None
) -> tuple[object, ...]:
    """Where the walk begins (a time and an id), and the time that ends it."""
    low, high = low or CREATED_MIN, high or CREATED_MAX
    if question.descending:
        return (*(after or (high, _FIRST_ID)), low)
    return (*(after or (low - _TICK, _LAST_ID)), high)
