"""The server's side of operations in memory: keys, results and entities by the rules of the real one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from shared import inspections
from shared.inspections import Applied, Conflict, Inspection, Who
from shared.protocol.operations import Invalid, Operation, body_hash, decode_operation

TEMPLATE = UUID(int=1 << 64)
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass
class Office:
    """One device's inspections. `applied` has the op_ids that had an effect, in order."""

    subject: str = "truck-7"
    entities: dict[str, Inspection] = field(default_factory=dict)
    kept: dict[str, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)
    batches: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)  # entities whose rows somebody holds: `retry` once

    def apply(self, via: str, operations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        self.batches.append((via, [dict(one) for one in operations]))
        assert 1 <= len(operations) <= 100
        stopped: set[str] = set()
        results = []
        for one in operations:
            result = self._judge(decode_operation(one), stopped)
            if "error" in result:
                stopped.add(one["entity_id"])
            results.append(result)
        self.busy -= {one["entity_id"] for one in operations}
        return results

    def other_changes(self, entity_id: str) -> None:
        """Somebody else changes it."""
        entity = self.entities[entity_id]
        self.entities[entity_id] = entity._replace(version=entity.version + 1)

    def _judge(self, operation: Operation | Invalid, stopped: set[str]) -> dict[str, Any]:
        op_id = operation.op_id
        assert op_id is not None
        if isinstance(operation, Invalid):
            return {"op_id": op_id, "status": "rejected", "http": 400, "error": _error("invalid", operation.detail)}
        if op_id in self.kept:
            digest, result = self.kept[op_id]
            if digest != body_hash(operation):
                return {"op_id": op_id, "status": "rejected", "http": 422, "error": _error("key_reused")}
            return {**result, "status": "duplicate"}
        retry = {"op_id": op_id, "status": "retry", "retry_after_s": 1.0}
        if operation.entity_id in stopped:
            return {**retry, "http": 409, "error": _error("dependency")}
        if operation.entity_id in self.busy:
            return {**retry, "http": 503, "error": _error("unavailable")}
        made = inspections.apply(
            self.entities.get(operation.entity_id),
            operation,
            who=Who("device", self.subject),
            now=NOW,
            templates={TEMPLATE: 1},
        )
        match made:
            case Applied(entity):
                self.entities[operation.entity_id] = entity
                self.applied.append(op_id)
                result = {"op_id": op_id, "status": "applied", "http": 200, "version": entity.version}
            case Conflict(entity):
                state = msgspec.to_builtins(msgspec.structs.replace(inspections.state_of(entity), answers={}))
                error = _error("conflict")
                return {"op_id": op_id, "status": "conflict", "http": 409, "version": entity.version,
                        "entity": state, "error": error}  # fmt: skip
            case _:
                error = _error(made.code, made.detail)
                result = {"op_id": op_id, "status": "rejected", "http": made.http, "error": error}
        self.kept[op_id] = body_hash(operation), result
        return result


def _error(code: str, detail: str = "because") -> dict[str, Any]:
    return {"code": code, "detail": detail}


def create(entity_id: str, **members: Any) -> dict[str, Any]:
    data = {"template_id": str(TEMPLATE), "title": "Brakes", "answers": {"left": 1}}
    return {"type": "inspection.create", "entity_id": entity_id, "data": data, **members}


def update(entity_id: str, answers: Mapping[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    data = {"answers": {"right": 2} if answers is None else dict(answers)}
    return {"type": "inspection.update", "entity_id": entity_id, "data": data, **members}
