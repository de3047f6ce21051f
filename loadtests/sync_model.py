"""Sync as one would explain it at a table: dictionaries, one operation after another, nothing at once, nothing lost."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

NEXT = {"submit": ("draft", "submitted"), "approve": ("submitted", "approved"), "reject": ("submitted", "rejected")}
NEXT["reopen"] = ("rejected", "draft")


@dataclass
class Model:
    """What a server that is never cut, killed or asked twice would answer and hold."""

    inspections: dict[str, dict[str, Any]] = field(default_factory=dict)
    settled: dict[tuple[str, str], tuple[dict[str, Any], tuple[Any, ...]]] = field(default_factory=dict)

    def batch(self, who: str, operations: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        """(effect, http, version or code) of each: the effect is `done`, `conflict`, `refused` or `retry`."""
        stopped: set[str] = set()
        told: dict[str, tuple[Any, ...]] = {}
        answers = []
        for operation in operations:
            outcome = told.get(operation["op_id"]) or self._one(who, operation, stopped)
            told[operation["op_id"]] = outcome
            if outcome[0] != "done":
                stopped.add(operation["entity_id"])
            answers.append(outcome)
        return answers

    def _one(self, who: str, operation: dict[str, Any], stopped: set[str]) -> tuple[Any, ...]:
        key = (who, operation["op_id"])
        if key in self.settled:
            first, outcome = self.settled[key]
            return outcome if first == operation else ("refused", 422, "key_reused")
        if operation["entity_id"] in stopped:
            return ("retry", 409, "dependency")
        outcome = self.apply(who, operation)
        if outcome[0] in ("done", "refused"):
            self.settled[key] = (deepcopy(operation), outcome)
        return outcome

    def apply(self, who: str, operation: dict[str, Any]) -> tuple[Any, ...]:
        """One operation for itself."""
        kind, subject = who.split(":")
        verb = operation["type"].split(".")[1]
        entity = self.inspections.get(operation["entity_id"])
        data = operation.get("data", {})
        if verb == "create":
            if entity is not None:
                if kind == "device" and entity["inspector"] != subject:
                    return ("refused", 403, "forbidden")
                return ("conflict", 409, entity["version"])
            self.inspections[operation["entity_id"]] = {
                "inspector": subject,
                "status": "draft",
                "title": data["title"],
                "answers": {name: value for name, value in data["answers"].items() if value is not None},
                "version": 1,
                "deleted": False,
            }
            return ("done", 201, 1)
        if entity is None or (kind == "device" and entity["inspector"] != subject):
            return ("refused", 404, "not_found")
        if verb in ("approve", "reject") and kind == "device":
            return ("refused", 403, "forbidden")
        if entity["deleted"]:
            return ("refused", 404, "deleted")
        if entity["version"] != operation["base_version"]:
            return ("conflict", 409, entity["version"])
        if not self._change(entity, verb, kind, data):
            return ("refused", 422, "wrong_status")
        entity["version"] += 1
        return ("done", 200, entity["version"])

    def _change(self, entity: dict[str, Any], verb: str, kind: str, data: dict[str, Any]) -> bool:
        if verb in NEXT:
            before, after = NEXT[verb]
            if entity["status"] != before:
                return False
            entity["status"] = after
        elif verb == "delete":
            if kind == "device" and entity["status"] not in ("draft", "rejected"):
                return False
            entity["deleted"] = True
        else:
            if entity["status"] != "draft":
                return False
            entity["title"] = data.get("title", entity["title"])
            for name, value in data.get("answers", {}).items():
                if value is None:
                    entity["answers"].pop(name, None)
                else:
                    entity["answers"][name] = value
        return True
