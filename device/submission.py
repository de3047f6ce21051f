"""An operation as the application gives it becomes what is kept and sent: checked by the very types that the server
decodes with, so that what is malformed is told at once and not days later.
"""

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from device.errors import OperationInvalid
from shared.clock import wall
from shared.protocol import strict_json
from shared.protocol.operations import Create, Invalid, Operation, decode_operation

__all__ = ["Submission", "new_id", "submission"]

# As deep as a frame may nest, without the two levels around an operation.
_DEPTH_MAX: Final = 14
_FORESEEN: Final = 1  # stands for a version that is not known yet, while the rest is checked


class Submission(NamedTuple):
    """An operation, checked. `body` is its JSON object without a base_version; `digest` tells it from others."""

    op_id: str
    entity_id: str
    body: str
    base: int | None
    after: str | None
    digest: bytes


def new_id() -> str:
    """A UUID that nobody else makes, for an operation or an entity; later ones sort after earlier ones (version 7)."""
    bits = int(wall() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    bits = bits & ~(0xF << 76) | 0x7 << 76
    return str(UUID(int=bits & ~(0x3 << 62) | 0x2 << 62))


def submission(operation: Mapping[str, Any] | Operation, after: str | None) -> Submission:
    """Check an operation; one without an `op_id` is given one. Raises OperationInvalid."""
    members = dict(operation) if isinstance(operation, Mapping) else msgspec.to_builtins(operation)
    if after is not None:
        if members.get("base_version") is not None:
            raise OperationInvalid("name base_version or after, not both", field="after")
        if members.get("type") == Create.__struct_config__.tag:
            raise OperationInvalid("after: an inspection is created after nothing", field="after")
        members["base_version"] = _FORESEEN
    if members.get("op_id") is None:
        members["op_id"] = new_id()
    value = _as_received(members)
    checked = decode_operation(value)
    if isinstance(checked, Invalid):
        hint = " (or say after=)" if checked.field == "base_version" and "missing" in checked.detail else ""
        raise OperationInvalid(checked.detail + hint, field=checked.field)
    base = value.pop("base_version", None) if after is None else None
    value.pop("base_version", None)
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    digest = sha256(json.dumps([value, base, after], sort_keys=True).encode()).digest()
    return Submission(checked.op_id, checked.entity_id, body, base, after, digest)


def _as_received(members: Mapping[str, Any]) -> dict[str, Any]:
    """What the server will read."""
    try:
        text = json.dumps(members, ensure_ascii=False, allow_nan=False)
        value = strict_json.decode(text.encode(), max_depth=_DEPTH_MAX)
    except strict_json.NotStrictJson as error:
        raise OperationInvalid(f"the operation {error}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise OperationInvalid(f"the operation is nothing that JSON can say: {error}") from None
    assert isinstance(value, dict)
    return value
