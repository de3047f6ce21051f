from typing import Any
from uuid import UUID

import msgspec
import orjson
import pytest

from shared.protocol.operations import (
    ANSWERS_MAX_BYTES,
    OPERATIONS_MAX,
    TYPES,
    Create,
    Invalid,
    Submit,
    SyncBatch,
    Update,
    body_hash,
    decode_operation,
    type_of,
)

ID = "0190a0b0-0000-7000-8000-00000000000a"
OTHER = str(UUID(int=7))


def operation(kind: str = "inspection.create", **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"op_id": ID, "type": kind, "entity_id": OTHER}
    if kind == "inspection.create":
        base["data"] = {"template_id": ID, "title": "Brakes", "answers": {"left": 1}}
    else:
        base["base_version"] = 3
    return {**base, **more}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_each_type_is_read_with_its_own_data() -> None:
    assert isinstance(decode_operation(operation()), Create)
    assert isinstance(decode_operation(operation("inspection.submit")), Submit)
    update = decode_operation(operation("inspection.update", data={"answers": {"left": None}}))
    assert isinstance(update, Update)
    assert (update.base_version, update.data.answers) == (3, {"left": None})
    for kind in TYPES[1:]:
        data = {"note": "again"} if kind == "inspection.reject" else {"title": "T"} if kind.endswith("update") else {}
        decoded = decode_operation(operation(kind, data=data))
        assert not isinstance(decoded, Invalid)
        assert type_of(decoded) == kind


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "type"),
        (operation("inspection.burn"), "type"),
        (operation(op_id=None), "op_id"),
        (operation(op_id=ID.upper()), "op_id"),
        (operation(op_id=ID.replace("-", "")), "op_id"),
        (operation(op_id=ID + "\n"), "op_id"),
        (operation(entity_id=7), "entity_id"),
        (operation(base_version=1), "base_version"),
        (operation(data=None), "data"),
        (operation(data={"title": "T", "answers": {}}), "data.template_id"),
        (operation(data={"template_id": "x", "title": "T", "answers": {}}), "data.template_id"),
        (operation(data={"template_id": ID, "title": "", "answers": {}}), "data.title"),
        (operation(data={"template_id": ID, "title": "a\nb", "answers": {}}), "data.title"),
        (operation(data={"template_id": ID, "title": "\ud800", "answers": {}}), "data.title"),
        (operation(data={"template_id": ID, "title": "x" * 201, "answers": {}}), "data.title"),
        (operation(data={"template_id": ID, "title": "T", "answers": []}), "data.answers"),
        (operation(data={"template_id": ID, "title": "T", "answers": {"n": 2**70}}), "data.answers"),
        (operation(data={"template_id": ID, "title": "T", "answers": {"t": "\ud800"}}), "data.answers"),
        (operation(data={"template_id": ID, "title": "T", "answers": {"t": "x" * ANSWERS_MAX_BYTES}}), "data.answers"),
        (operation(data={"template_id": ID, "title": "T", "answers": nested(13)}), "data.answers"),
        (
            operation(data={"template_id": ID, "title": "T", "answers": {}, "template_version": 0}),
            "data.template_version",
        ),
        (operation(data={"template_id": ID, "title": "T", "answers": {}, "colour": 1}), "data.colour"),
        (operation("inspection.update", data={}), "data"),
        (operation("inspection.update", data={"title": None}), "data.title"),
        (operation("inspection.update", base_version=0, data={"title": "T"}), "base_version"),
        (operation("inspection.update", base_version=2**31, data={"title": "T"}), "base_version"),
        (operation("inspection.submit", base_version=None), "base_version"),
        (operation("inspection.submit", data={"note": "x"}), "data.note"),
        (operation("inspection.reject"), "data"),
        (operation("inspection.reject", data={"note": ""}), "data.note"),
        (operation("inspection.reject", data={"note": " \n"}), "data.note"),
        (operation("inspection.reject", data={"note": "a\x00b"}), "data.note"),
        (operation("inspection.submit", extra=1), "extra"),
        (operation(data="\ud800"), ""),
    ],
)
def test_what_is_wrong_is_named(value: dict[str, Any], field: str) -> None:
    invalid = decode_operation(value)
    assert isinstance(invalid, Invalid)
    assert invalid.field == field
    assert field in invalid.detail
    # The ids are told only when they are ids.
    assert invalid.op_id in (None, ID)
    assert invalid.entity_id in (None, OTHER)


def test_answers_nest_as_deep_as_a_frame_has_room_for() -> None:
    data = {"template_id": ID, "title": "T", "answers": nested(12)}
    assert isinstance(decode_operation(operation(data=data)), Create)


def test_the_hash_knows_the_same_operation_however_it_is_written() -> None:
    def digest(value: dict[str, Any]) -> bytes:
        decoded = decode_operation(value)
        assert not isinstance(decoded, Invalid)
        return body_hash(decoded)

    first = digest(operation(data={"template_id": ID, "title": "T", "answers": {"a": 1, "b": {"c": 2, "d": 3}}}))
    data = {"answers": {"b": {"d": 3, "c": 2}, "a": 1}, "title": "T", "template_id": ID}
    assert digest(operation(op_id=OTHER, data=data)) == first
    assert digest(operation(data={**data, "title": "t"})) != first
    assert digest(operation(entity_id=ID, data=data)) != first
    assert digest(operation("inspection.submit")) == digest(operation("inspection.submit", data={}))
    assert digest(operation("inspection.submit")) != digest(operation("inspection.submit", base_version=4))
    assert digest(operation("inspection.submit")) != digest(operation("inspection.reopen"))
    # An answer taken away is not an answer left alone.
    title = digest(operation("inspection.update", data={"title": "T"}))
    assert digest(operation("inspection.update", data={"title": "T", "answers": {}})) != title


def test_a_batch_has_one_to_a_hundred_objects() -> None:
    wrong: list[Any] = [[], [{}] * (OPERATIONS_MAX + 1), [7], {}]
    for operations in wrong:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"operations": operations}, SyncBatch)
    assert len(msgspec.convert({"operations": [{}] * OPERATIONS_MAX}, SyncBatch).operations) == OPERATIONS_MAX


def test_a_full_frame_of_deep_answers_is_within_the_depth_of_frames() -> None:
    from shared.protocol.frames import Sync, decode_device_frame

    data = {"template_id": ID, "title": "T", "answers": nested(12)}
    frame = decode_device_frame(orjson.dumps({"type": "sync", "ref": "1", "operations": [operation(data=data)]}))
    assert isinstance(frame, Sync)
