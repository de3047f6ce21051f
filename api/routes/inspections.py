"""Inspections as they are read: one, and the lists that an index answers. Devices see their own."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from starlette.responses import Response

from api.answers import moment, typed_answer
from api.descriptions.inspections import LIST_INSPECTIONS, READ_INSPECTION, InspectionsPage, InspectionSummary
from api.inputs import uuid_of
from api.inspection_list import SORTS, STATUSES, InspectionKey, InspectionQuestion, key_of, plan
from api.job_list import NotAllowed
from api.pagination import InvalidCursor, SignedCursors
from api.preconditions import etag_of, is_known
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.routes.inspection_commands import InspectionCommands, may_see
from api.shedding import Shed
from shared.inspections import state_of
from shared.store import inspections
from shared.store.inspections import ListedInspection
from shared.store.pool import Pool
from shared.store.replicas import Replicas
from shared.tokens import Scope

__all__ = ["Inspections"]

LIMIT_DEFAULT: Final = 100
INSPECTOR_MAX_LENGTH: Final = 128
_PATH: Final = "/api/v1/inspections"
_READERS: Final[frozenset[Scope]] = frozenset({"device", "operator", "service"})
_FLAGS: Final = ("true", "false")


class Inspections:
    """`GET /api/v1/inspections`, `GET /api/v1/inspections/{inspection_id}`, and the paths of what changes one."""

    def __init__(self, pool: Pool, replicas: Replicas, cursors: SignedCursors, *, page_max: int) -> None:
        self._pool = pool
        self._replicas = replicas
        self._cursors = cursors
        self._page_max = page_max

    def resources(self, guard: Guard, commands: InspectionCommands) -> Sequence[Resource]:
        """For the route table."""
        listed = Operation(self.page, _READERS, description=LIST_INSPECTIONS, shed=Shed.FIRST)
        one = {
            "GET": Operation(self.read, _READERS, description=READ_INSPECTION),
            "PATCH": commands.update_operation,
            "DELETE": commands.delete_operation,
        }
        return [
            Resource(guard, _PATH, {"GET": listed, "POST": commands.create_operation}),
            Resource(guard, f"{_PATH}/{{inspection_id}}", one),
            *(
                Resource(guard, f"{_PATH}/{{inspection_id}}/{name}", {"POST": operation})
                for name, operation in commands.moves.items()
            ),
        ]

    async def read(self, call: Call) -> Response:
        """The inspection as it is. A deleted one is shown to who asks for that, and to no device."""
        inspection_id = uuid_of(call.path["inspection_id"], "inspection_id")
        with_deleted = call.query.choice("is_deleted", _FLAGS) == "true"
        entity = await inspections.get(self._pool, inspection_id)
        if entity is None or not may_see(call, entity):
            raise Problem("not-found", "there is no such inspection")
        if entity.is_deleted and (not with_deleted or _only_inspector(call) is not None):
            raise Problem("not-found", "the inspection was deleted")
        headers = {"ETag": etag_of(entity.version)}
        if is_known(call.headers, headers["ETag"]):
            return Response(None, 304, headers)
        return Response(msgspec.json.encode(state_of(entity)), 200, headers, media_type="application/json")

    async def page(self, call: Call) -> Response:
        """A page of one of the lists."""
        question = _question(call)
        limit = call.query.integer("limit", default=min(LIMIT_DEFAULT, self._page_max), low=1, high=self._page_max)
        sort, filters = _identity(question)
        after: InspectionKey | None = None
        try:
            if (text := call.query.text("cursor")) is not None:
                after = self._cursors.read(text, sort, filters, (datetime, UUID))
            walk = plan(question, after)
        except InvalidCursor as error:
            raise Problem("invalid-parameter", str(error), field="cursor") from None
        except NotAllowed as error:
            raise Problem("invalid-parameter", str(error), field=error.field) from None
        rows = await inspections.page(self._replicas.after(call.read_after), walk, limit=limit + 1)
        shown = rows[:limit]
        following = None
        if len(rows) > limit:
            following = self._cursors.sign(sort, filters, key_of(question, shown[-1]))
        return typed_answer(InspectionsPage([_listed(row) for row in shown], following))


def _only_inspector(call: Call) -> str | None:
    """The device that the caller is, when it is nothing more than that."""
    claims = call.claims
    return None if claims.allows("operator") or claims.allows("service") else claims.subject


def _question(call: Call) -> InspectionQuestion:
    """What is asked for. Raises Problem (400, 403)."""
    query = call.query
    inspector_id = query.text("inspector_id")
    if inspector_id is not None and not (inspector_id.isprintable() and 1 <= len(inspector_id) <= INSPECTOR_MAX_LENGTH):
        detail = f"inspector_id must be 1 to {INSPECTOR_MAX_LENGTH} printable characters"
        raise Problem("invalid-parameter", detail, field="inspector_id")
    only_inspector = _only_inspector(call)
    if inspector_id is not None and only_inspector not in (None, inspector_id):
        raise Problem("forbidden", "a device's token reaches its own inspections only", field="inspector_id")
    template_id = query.text("template_id")
    is_deleted = query.choice("is_deleted", _FLAGS)
    submitted = [query.moment("submitted_from"), query.moment("submitted_to")]
    sort = query.choice("sort", SORTS) or ("created_at" if submitted == [None, None] else "submitted_at")
    return InspectionQuestion(
        inspector_id=inspector_id,
        template_id=None if template_id is None else uuid_of(template_id, "template_id"),
        is_deleted=None if is_deleted is None else is_deleted == "true",
        status=query.choice("status", STATUSES),  # type: ignore[arg-type]  # one of them, as was just checked
        created_from=query.moment("created_from"),
        created_to=query.moment("created_to"),
        submitted_from=submitted[0],
        submitted_to=submitted[1],
        sort=sort,  # type: ignore[arg-type]
        descending=query.choice("order", ("asc", "desc")) != "asc",
        only_inspector=only_inspector,
    )


def _identity(question: InspectionQuestion) -> tuple[str, dict[str, str]]:
    """What a cursor is good for: sort and filters, also the one that the caller did not choose."""
    given = {name: value for name, value in asdict(question).items() if value is not None}
    sort = f"inspections {given.pop('sort')} {'desc' if given.pop('descending') else 'asc'}"
    return sort, {
        name: value.isoformat() if isinstance(value, datetime) else str(value) for name, value in given.items()
    }


def _listed(row: ListedInspection) -> InspectionSummary:
    return InspectionSummary(
        inspection_id=str(row.inspection_id),
        inspector_id=row.inspector_id,
        template_id=str(row.template_id),
        template_version=row.template_version,
        status=row.status,
        title=row.title,
        version=row.version,
        is_deleted=row.is_deleted,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
        submitted_at=moment(row.submitted_at),
        decided_at=moment(row.decided_at),
        decided_by=row.decided_by,
    )
