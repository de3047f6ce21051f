"""What is done to one inspection by REST: each request is a batch of one operation, judged by the same rules as a sync.

The version that an operation is made upon comes by `If-Match`. With an Idempotency-Key the operation has an `op_id`
that follows from it: a request that was cut off after its effect finds that effect when it is sent again.
"""

from collections.abc import Mapping
from random import Random
from typing import Any, Final
from uuid import UUID

import msgspec
import orjson
from starlette.responses import Response

from api.descriptions.inspections import (
    APPROVE_INSPECTION,
    CREATE_INSPECTION,
    DELETE_INSPECTION,
    REJECT_INSPECTION,
    REOPEN_INSPECTION,
    SUBMIT_INSPECTION,
    UPDATE_INSPECTION,
    NewInspection,
)
from api.idempotency import keys_spent
from api.inputs import uuid_of
from api.preconditions import etag_of, precondition_failed, seen_versions
from api.problems import Problem
from api.resource import Call, Operation
from shared.clock import wall
from shared.inspections import Inspection, state_of
from shared.protocol.ids import time_ordered_uuid
from shared.protocol.operations import ANSWERS_MAX_BYTES, ApproveData, Invalid, RejectData, UpdateData, decode_operation
from shared.store import inspections
from shared.store.pool import Pool
from shared.sync.engine import KeysSpent, Outcome, apply_decoded
from shared.tokens import Scope

__all__ = ["InspectionCommands", "may_see", "shown_inspection"]

# Escapes may make what is sent longer than what is kept.
BODY_MAX_BYTES: Final = 4 * ANSWERS_MAX_BYTES
# How often a change upon whichever version there is looks again, when others change it meanwhile.
TRIES: Final = 3
_AUTHORS: Final[frozenset[Scope]] = frozenset({"device", "operator"})
_JUDGES: Final[frozenset[Scope]] = frozenset({"operator"})


class InspectionCommands:
    """The operations that change inspections, for the resources to have."""

    def __init__(self, pool: Pool, *, keys_per_day: int, rand: Random) -> None:
        self._pool = pool
        self._keys_per_day = keys_per_day
        self._rand = rand
        large: dict[str, Any] = {"body_max_bytes": BODY_MAX_BYTES, "idempotency": "optional"}
        small: dict[str, Any] = {"body_max_bytes": 32 * 1024, "idempotency": "optional"}
        self.create_operation = Operation(
            self.create, _AUTHORS, body=NewInspection, description=CREATE_INSPECTION, **large
        )
        self.update_operation = Operation(
            self.update, _AUTHORS, body=UpdateData, description=UPDATE_INSPECTION, **large
        )
        self.delete_operation = Operation(self.delete, _AUTHORS, idempotency="optional", description=DELETE_INSPECTION)
        self.moves: Mapping[str, Operation] = {
            "submit": Operation(self.submit, _AUTHORS, idempotency="optional", description=SUBMIT_INSPECTION),
            "reopen": Operation(self.reopen, _AUTHORS, idempotency="optional", description=REOPEN_INSPECTION),
            "approve": Operation(self.approve, _JUDGES, body=ApproveData, description=APPROVE_INSPECTION, **small),
            "reject": Operation(self.reject, _JUDGES, body=RejectData, description=REJECT_INSPECTION, **small),
        }
        """The last segment of a path, and what it does."""

    async def create(self, call: Call) -> Response:
        """A draft. An id that is taken is a 409 with what is there."""
        data = msgspec.to_builtins(call.body)
        given = data.pop("inspection_id", None)
        if given is not None:
            inspection_id = _body_id(given)
        else:
            inspection_id = call.once.uuid("inspection") if call.once else time_ordered_uuid(wall(), self._rand)
        result, entity = await self._apply(call, "create", inspection_id, None, data)
        if result.status == "conflict" and entity is not None:
            detail = "there is an inspection of this id: read `current`, or choose another inspection_id"
            current = shown_inspection(entity)
            raise Problem("inspection-exists", detail, field="inspection_id", version=entity.version, current=current)
        entity = entity or await inspections.get(self._pool, inspection_id)
        assert entity is not None, "inspections are never removed"
        return _answer(entity, 201, {"Location": f"/api/v1/inspections/{inspection_id}"})

    async def update(self, call: Call) -> Response:
        """Title and answers of a draft."""
        return await self._changed(call, "update", msgspec.to_builtins(call.body))

    async def submit(self, call: Call) -> Response:
        """Hand a draft in."""
        return await self._changed(call, "submit", {})

    async def approve(self, call: Call) -> Response:
        """Accept what was submitted."""
        return await self._changed(call, "approve", msgspec.to_builtins(call.body))

    async def reject(self, call: Call) -> Response:
        """Send back what was submitted."""
        return await self._changed(call, "reject", msgspec.to_builtins(call.body))

    async def reopen(self, call: Call) -> Response:
        """Make a draft of what was rejected."""
        return await self._changed(call, "reopen", {})

    async def delete(self, call: Call) -> Response:
        """Mark it."""
        await self._changed(call, "delete", {})
        return Response(None, 204)

    async def _changed(self, call: Call, kind: str, data: dict[str, Any]) -> Response:
        inspection_id = uuid_of(call.path["inspection_id"], "inspection_id")
        seen = seen_versions(call.headers)
        if seen is not None and len(seen) == 1:
            result, entity = await self._apply(call, kind, inspection_id, next(iter(seen)), data)
        else:
            result, entity = await self._upon_one_of(call, kind, inspection_id, seen, data)
        if result.status == "conflict" and entity is not None:
            raise precondition_failed(entity.version, shown_inspection(entity))
        entity = entity or await inspections.get(self._pool, inspection_id)
        assert entity is not None, "inspections are never removed"
        return _answer(entity)

    async def _upon_one_of(
        self, call: Call, kind: str, inspection_id: UUID, seen: frozenset[int] | None, data: dict[str, Any]
    ) -> Outcome:
        """The same for any of several versions: which one it is has to be read first."""
        for _ in range(TRIES):
            current = await inspections.get(self._pool, inspection_id)
            if current is None or not may_see(call, current):
                raise Problem("not-found", "there is no such inspection")
            if seen is not None and not seen:
                raise precondition_failed(current.version, shown_inspection(current))
            # Also where the answer seems to be known: this very request may have had its effect before.
            base_version = current.version if seen is None or current.version in seen else max(seen)
            outcome = await self._apply(call, kind, inspection_id, base_version, data)
            now = outcome.entity
            if outcome.result.status != "conflict" or (
                seen is not None and now is not None and now.version not in seen
            ):
                return outcome
        raise Problem("unavailable", "others change this inspection all the time; try again")

    async def _apply(
        self, call: Call, kind: str, inspection_id: UUID, base_version: int | None, data: dict[str, Any]
    ) -> Outcome:
        """A batch of one. What it returns was applied now or before, or is a conflict. Raises Problem for the rest."""
        op_id = call.once.uuid("operation") if call.once else time_ordered_uuid(wall(), self._rand)
        value: dict[str, Any] = {
            "op_id": str(op_id),
            "type": f"inspection.{kind}",
            "entity_id": str(inspection_id),
            "data": data,
        }
        if base_version is not None:
            value["base_version"] = base_version
        operation = decode_operation(value)
        if isinstance(operation, Invalid):
            field = operation.field.removeprefix("data").removeprefix(".")
            raise Problem("invalid-body", operation.detail.replace("data.", "").replace("data:", "body:"), field=field)
        try:
            (outcome,) = await apply_decoded(
                self._pool, call.claims.principal, [operation], keys_per_day=self._keys_per_day
            )
        except KeysSpent as spent:
            raise keys_spent(spent) from None
        result, error = outcome.result, outcome.result.error
        if error is None or result.status == "conflict":
            return outcome
        if result.status == "retry":
            raise Problem("unavailable", error.detail)
        if error.code == "key_reused" and call.once is not None:
            # Only this request makes this op_id: it had its effect before, upon the version that there was then.
            return Outcome(msgspec.structs.replace(result, status="duplicate", error=None))
        raise _problem(result.http, error.code, error.detail, error.field)


def may_see(call: Call, entity: Inspection) -> bool:
    """Devices see their own."""
    claims = call.claims
    return claims.allows("operator") or claims.allows("service") or entity.inspector_id == claims.subject


def shown_inspection(entity: Inspection) -> dict[str, Any]:
    """The inspection as a member of a problem."""
    shown: dict[str, Any] = orjson.loads(msgspec.json.encode(state_of(entity)))
    return shown


def _answer(entity: Inspection, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The whole inspection; its answers go out as they are kept."""
    given = {"ETag": etag_of(entity.version), **(headers or {})}
    return Response(msgspec.json.encode(state_of(entity)), status, given, media_type="application/json")


def _body_id(text: str) -> UUID:
    try:
        return uuid_of(text, "inspection_id")
    except Problem as problem:
        raise Problem("invalid-body", problem.detail, field="inspection_id") from None


def _problem(http: int, code: str, detail: str, field: str | None) -> Problem:
    if http == 403:
        return Problem("forbidden", detail)
    if http == 404:
        return Problem("not-found", detail)
    # Which operation it was is said by the path.
    members: dict[str, Any] = {} if field in (None, "type") else {"field": str(field).removeprefix("data.")}
    return Problem("unprocessable", detail, code=code, **members)
