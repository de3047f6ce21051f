"""Operations: what devices did while they were away, and operators at their desks, as items of a sync batch.

Types are the schema. Each operation is decoded by itself, so that one that is malformed (`Invalid`, naming the member)
keeps none of the others out. `op_id` is the key under which its effect happens once: the same operation sent again is
told the result of the first time, another one under the same `op_id` is refused.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.protocol.field_errors import convert, field_of

__all__ = [
    "ANSWERS_MAX_BYTES",
    "ANSWERS_MAX_DEPTH",
    "BATCH_MAX_BYTES",
    "OPERATIONS_MAX",
    "TYPES",
    "Answers",
    "Approve",
    "ApproveData",
    "Create",
    "CreateData",
    "Delete",
    "InspectionState",
    "Invalid",
    "Nothing",
    "Operation",
    "OperationError",
    "OperationResult",
    "Reject",
    "RejectData",
    "Reopen",
    "ResultStatus",
    "Submit",
    "SyncBatch",
    "SyncResults",
    "Title",
    "Update",
    "UpdateData",
    "Version",
    "body_hash",
    "decode_operation",
    "type_of",
]

OPERATIONS_MAX: Final = 100
BATCH_MAX_BYTES: Final = 1024 * 1024
ANSWERS_MAX_BYTES: Final = 64 * 1024
# A frame may nest 16 deep, and its answers begin at the fifth: what a socket would close over is refused by REST, too.
ANSWERS_MAX_DEPTH: Final = 12
TITLE_MAX_LENGTH: Final = 200
NOTE_MAX_LENGTH: Final = 2000

_UUID_PATTERN: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_UUID: Final = re.compile(_UUID_PATTERN[1:-1], re.ASCII)

Uuid = Annotated[str, Meta(pattern=_UUID_PATTERN, min_length=36, max_length=36, description="A UUID in lower case.")]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Title = Annotated[str, Meta(min_length=1, max_length=TITLE_MAX_LENGTH, description="Printable characters.")]
Note = Annotated[str, Meta(min_length=1, max_length=NOTE_MAX_LENGTH, description="Text, of several lines if need be.")]
Answers = Annotated[
    dict[str, Any],
    Meta(description=f"At most {ANSWERS_MAX_BYTES} bytes as JSON, nested at most {ANSWERS_MAX_DEPTH} deep."),
]


class CreateData(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A new draft by a template, in its newest version unless another is named. A null answer is none."""

    template_id: Uuid
    title: Title
    answers: Answers
    template_version: Version | None = None


class UpdateData(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What changes; one of the two at least. `answers` is a merge patch (RFC 7396): null takes an answer away."""

    title: Title | UnsetType = UNSET
    answers: Answers | UnsetType = UNSET


class ApproveData(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A word on it, if there is one."""

    note: Note | None = None


class RejectData(Struct, frozen=True, forbid_unknown_fields=True):
    """Why."""

    note: Note


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No data: an empty object, or none."""


class _Any(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"):
    op_id: Uuid
    entity_id: Uuid


class Create(_Any, frozen=True, tag="inspection.create"):
    """An inspection begins; `entity_id` is the id that it will have."""

    data: CreateData


class Update(_Any, frozen=True, tag="inspection.update"):
    """A draft changes."""

    base_version: Version
    data: UpdateData


class Submit(_Any, frozen=True, tag="inspection.submit"):
    """A draft is handed in."""

    base_version: Version
    data: Nothing = Nothing()


class Approve(_Any, frozen=True, tag="inspection.approve"):
    """An operator accepts what was submitted."""

    base_version: Version
    data: ApproveData = ApproveData()


class Reject(_Any, frozen=True, tag="inspection.reject"):
    """An operator sends back what was submitted."""

    base_version: Version
    data: RejectData


class Reopen(_Any, frozen=True, tag="inspection.reopen"):
    """What was rejected is a draft again."""

    base_version: Version
    data: Nothing = Nothing()


class Delete(_Any, frozen=True, tag="inspection.delete"):
    """It is marked as deleted, and kept."""

    base_version: Version
    data: Nothing = Nothing()


Operation = Create | Update | Submit | Approve | Reject | Reopen | Delete
TYPES: Final[tuple[str, ...]] = tuple(
    str(kind.__struct_config__.tag) for kind in (Create, Update, Submit, Approve, Reject, Reopen, Delete)
)


class SyncBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """Operations in the order in which they happened. Each is judged by itself."""

    operations: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=OPERATIONS_MAX)]


class Invalid(NamedTuple):
    """An operation that cannot be read: what is wrong with which member. The ids are there if they could be read."""

    op_id: str | None
    entity_id: str | None
    field: str
    detail: str


ResultStatus = Literal["applied", "duplicate", "conflict", "rejected", "retry"]


class OperationError(Struct, frozen=True, omit_defaults=True):
    """Why an operation had no effect. `code` is for programs, `detail` for people, `field` the member to mend."""

    code: str
    detail: str
    field: str | None = None


class InspectionState(Struct, frozen=True):
    """An inspection as the server has it; times are RFC 3339."""

    inspection_id: str
    inspector_id: str
    template_id: str
    template_version: int
    status: Literal["draft", "submitted", "approved", "rejected"]
    title: str
    answers: dict[str, Any]
    note: str | None
    version: int
    is_deleted: bool
    created_at: str
    updated_at: str
    submitted_at: str | None
    decided_at: str | None
    decided_by: str | None


class OperationResult(Struct, frozen=True, omit_defaults=True):
    """What became of one operation. `http` is the status that the same as a single request would have been answered.

    `duplicate` repeats the result of the first time. A conflict brings `version` and `entity`, the server's state,
    which is left out where the answer would become too large. `retry` is for later, not before `retry_after_s`.
    """

    op_id: str | None
    status: ResultStatus
    http: int
    version: int | None = None
    entity: InspectionState | None = None
    error: OperationError | None = None
    retry_after_s: float | None = None


class SyncResults(Struct, frozen=True):
    """One result for each operation, in their order."""

    results: list[OperationResult]


def type_of(operation: Operation) -> str:
    """The operation's type, as on the wire."""
    return str(operation.__struct_config__.tag)


def decode_operation(value: Mapping[str, Any]) -> Operation | Invalid:
    """One item of a batch, decoded by `strict_json` before."""
    kind = value.get("type")
    if kind not in TYPES:
        return _invalid(value, "type", f"type must be one of {', '.join(TYPES)}")
    try:
        operation: Operation = convert(value, Operation)
    except msgspec.ValidationError as error:
        return _invalid(value, *_mended(*field_of(error)))
    flaw = _flaw_of(operation)
    return operation if flaw is None else _invalid(value, *flaw)


def body_hash(operation: Operation) -> bytes:
    """What decides whether an `op_id` that comes again brings the same operation (32 bytes, SHA-256)."""
    body = msgspec.to_builtins(operation)
    del body["op_id"]
    if not body.get("data"):
        body.pop("data", None)  # an empty object and none say the same
    return sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


def _invalid(value: Mapping[str, Any], field: str, detail: str) -> Invalid:
    return Invalid(_readable_id(value.get("op_id")), _readable_id(value.get("entity_id")), field, detail)


def _readable_id(value: Any) -> str | None:
    return value if isinstance(value, str) and _UUID.fullmatch(value) else None


def _mended(field: str, detail: str) -> tuple[str, str]:
    # What the library says of a pattern and a length is true and of no help.
    if field in ("op_id", "entity_id", "data.template_id") and "missing" not in detail:
        return field, f"{field} must be a UUID in lower case, with hyphens"
    return field, detail


def _flaw_of(operation: Operation) -> tuple[str, str] | None:
    data = operation.data
    if isinstance(data, CreateData | UpdateData):
        if data.title is UNSET and data.answers is UNSET:
            return "data", "data: name the title or the answers that change"
        if data.title is not UNSET and not data.title.isprintable():
            return "data.title", "data.title must be printable characters, on one line"
        if data.answers is not UNSET:
            return _flaw_of_answers(data.answers)
    elif isinstance(data, ApproveData | RejectData) and data.note is not None and not _is_text(data.note):
        return "data.note", "data.note must be printable characters, tabs and line feeds"
    return None


def _flaw_of_answers(answers: dict[str, Any]) -> tuple[str, str] | None:
    try:
        size = len(orjson.dumps(answers))
    except (TypeError, ValueError):
        # Numbers that no other reader may have, or halves of characters.
        return "data.answers", "data.answers must be UTF-8, with integers of at most 64 bits"
    if size > ANSWERS_MAX_BYTES:
        return "data.answers", f"data.answers has {size} bytes as JSON; use at most {ANSWERS_MAX_BYTES}"
    if _depth_exceeds(answers, ANSWERS_MAX_DEPTH):
        return "data.answers", f"data.answers nests deeper than {ANSWERS_MAX_DEPTH}"
    return None


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _is_text(text: str) -> bool:
    return text.replace("\n", "").replace("\t", "").isprintable() and bool(text.strip())
