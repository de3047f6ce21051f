"""What may become of an inspection: one function from its state and an operation to its next state or a refusal.

    (nothing) ─create→ draft ─submit→ submitted ─approve→ approved
                         ↑ ↻update         └────reject→ rejected ─reopen→ draft

Every change raises `version` by one and is made upon a version that its author has seen: another one in between is a
conflict, which hands the author the state as it is. A device sees and changes its own inspections only; whether
another's exist it is not told. Deleting marks. Pure.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast
from uuid import UUID

import msgspec
import orjson
from msgspec import UNSET

from shared.protocol.operations import (
    ANSWERS_MAX_BYTES,
    Approve,
    Create,
    InspectionState,
    Operation,
    Reject,
    Reopen,
    Submit,
    Update,
    type_of,
)

__all__ = ["Applied", "Conflict", "Inspection", "Outcome", "Rejected", "Status", "Who", "apply", "merged", "state_of"]

Status = Literal["draft", "submitted", "approved", "rejected"]

_VERSION_MAX: Final = 2**31 - 1


class Who(NamedTuple):
    """The author of an operation: the kind and the subject of a principal."""

    kind: str
    subject: str

    @classmethod
    def of(cls, principal: str) -> "Who":
        """The author that a principal stands for."""
        kind, _, subject = principal.partition(":")
        return cls(kind, subject)


class Inspection(NamedTuple):
    """An inspection's row. `answers` is a JSON object as text."""

    inspection_id: UUID
    inspector_id: str
    template_id: UUID
    template_version: int
    status: Status
    title: str
    answers: str
    note: str | None
    version: int
    is_deleted: bool
    created_at: datetime
    updated_at: datetime
    submitted_at: datetime | None
    decided_at: datetime | None
    decided_by: str | None


class Applied(NamedTuple):
    """The operation's effect: the inspection as it is now."""

    entity: Inspection


class Conflict(NamedTuple):
    """Somebody was first: the inspection as it is, unchanged."""

    entity: Inspection


class Rejected(NamedTuple):
    """It cannot be done, and sending it again changes nothing. `http` is 403, 404 or 422."""

    http: int
    code: str
    detail: str
    field: str | None = None


Outcome: TypeAlias = Applied | Conflict | Rejected


def apply(
    entity: Inspection | None, operation: Operation, *, who: Who, now: datetime, templates: Mapping[UUID, int]
) -> Outcome:
    """What the operation does. `templates` has the newest version of the templates that operations name."""
    if isinstance(operation, Create):
        return _create(entity, operation, who, now, templates)
    if entity is None or (who.kind == "device" and entity.inspector_id != who.subject):
        return Rejected(404, "not_found", "there is no such inspection", "entity_id")
    if who.kind not in ("device", "operator"):
        return Rejected(403, "forbidden", "inspections are changed by devices and operators")
    if isinstance(operation, Approve | Reject) and who.kind != "operator":
        return Rejected(403, "forbidden", "only an operator approves or rejects")
    if entity.is_deleted:
        return Rejected(404, "deleted", "the inspection was deleted", "entity_id")
    if entity.version != operation.base_version:
        return Conflict(entity)
    if entity.version >= _VERSION_MAX:
        return Rejected(422, "too_many_versions", "the inspection was changed too often")
    # A clock that was set back must not make a change older than the one before it.
    return _change(entity, operation, who, max(now, entity.updated_at))


def _create(
    entity: Inspection | None, operation: Create, who: Who, now: datetime, templates: Mapping[UUID, int]
) -> Outcome:
    if who.kind not in ("device", "operator"):
        return Rejected(403, "forbidden", "inspections are made by devices and operators")
    if entity is not None:
        if who.kind == "device" and entity.inspector_id != who.subject:
            return Rejected(403, "forbidden", "this id is taken; make a new one", "entity_id")
        return Conflict(entity)
    data = operation.data
    template_id = UUID(data.template_id)
    newest = templates.get(template_id)
    if newest is None:
        return Rejected(422, "unknown_template", "there is no such template", "data.template_id")
    if data.template_version is not None and data.template_version > newest:
        detail = f"the template's newest version is {newest}"
        return Rejected(422, "unknown_template_version", detail, "data.template_version")
    answers = _encoded(merged({}, data.answers))
    if answers is None:
        return _TOO_LARGE
    return Applied(
        Inspection(
            inspection_id=UUID(operation.entity_id),
            inspector_id=who.subject,
            template_id=template_id,
            template_version=data.template_version or newest,
            status="draft",
            title=data.title,
            answers=answers,
            note=None,
            version=1,
            is_deleted=False,
            created_at=now,
            updated_at=now,
            submitted_at=None,
            decided_at=None,
            decided_by=None,
        )
    )


def _change(entity: Inspection, operation: Operation, who: Who, now: datetime) -> Outcome:
    needed, what = _needed_status(operation, who)
    if entity.status not in needed:
        detail = f"it is {entity.status}; {what} takes one that is {' or '.join(needed)}"
        return Rejected(422, "wrong_status", detail, "type")
    changed = entity._replace(version=entity.version + 1, updated_at=now)
    match operation:
        case Update(data=data):
            answers = entity.answers
            if data.answers is not UNSET:
                patched = _encoded(merged(orjson.loads(entity.answers), data.answers))
                if patched is None:
                    return _TOO_LARGE
                answers = patched
            title = entity.title if data.title is UNSET else data.title
            return Applied(changed._replace(title=title, answers=answers))
        case Submit():
            return Applied(
                changed._replace(status="submitted", submitted_at=now, decided_at=None, decided_by=None, note=None)
            )
        case Approve(data=approved):
            return Applied(
                changed._replace(status="approved", note=approved.note, decided_at=now, decided_by=who.subject)
            )
        case Reject(data=rejected):
            return Applied(
                changed._replace(status="rejected", note=rejected.note, decided_at=now, decided_by=who.subject)
            )
        case Reopen():
            # Why it was rejected stays to be read until it is submitted again.
            return Applied(changed._replace(status="draft"))
        case _:
            return Applied(changed._replace(is_deleted=True))


_ANY_STATUS: Final[tuple[Status, ...]] = ("draft", "submitted", "approved", "rejected")


def _needed_status(operation: Operation, who: Who) -> tuple[tuple[Status, ...], str]:
    what = type_of(operation).rpartition(".")[2]
    match operation:
        case Update() | Submit():
            return ("draft",), what
        case Approve() | Reject():
            return ("submitted",), what
        case Reopen():
            return ("rejected",), what
        case _:
            # What was handed in is not the inspector's alone any more.
            return (_ANY_STATUS if who.kind == "operator" else ("draft", "rejected")), what


def merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396), applied: null takes a member away, objects are merged, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


_TOO_LARGE: Final = Rejected(
    422, "too_large", f"the answers together would be above {ANSWERS_MAX_BYTES} bytes", "data.answers"
)


def _encoded(answers: Any) -> str | None:
    encoded = orjson.dumps(answers)
    return encoded.decode() if len(encoded) <= ANSWERS_MAX_BYTES else None


def state_of(entity: Inspection) -> InspectionState:
    """The inspection as it goes out. Its answers are handed on as they are stored, without being read."""
    return InspectionState(
        inspection_id=str(entity.inspection_id),
        inspector_id=entity.inspector_id,
        template_id=str(entity.template_id),
        template_version=entity.template_version,
        status=entity.status,
        title=entity.title,
        answers=cast("Any", msgspec.Raw(entity.answers)),
        note=entity.note,
        version=entity.version,
        is_deleted=entity.is_deleted,
        created_at=_moment(entity.created_at),
        updated_at=_moment(entity.updated_at),
        submitted_at=None if entity.submitted_at is None else _moment(entity.submitted_at),
        decided_at=None if entity.decided_at is None else _moment(entity.decided_at),
        decided_by=entity.decided_by,
    )


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
