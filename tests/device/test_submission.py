"""Operations as applications give them: mappings or the protocol's own types, checked as the server would."""

import json
from typing import Any

import pytest

from device.errors import OperationInvalid
from device.submission import new_id, submission
from shared.protocol.operations import Submit, body_hash, decode_operation
from tests.device.office import create, update


def test_ids_are_unique_in_order_and_what_the_protocol_takes() -> None:
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)
    assert {one[14] for one in ids} == {"7"}
    assert {one[19] for one in ids} <= set("89ab")
    assert submission(create(ids[0], op_id=ids[1]), None).op_id == ids[1]


def test_the_body_is_the_operation_without_its_version() -> None:
    entity, op_id = new_id(), new_id()
    given = update(entity, {"text": "Grüße \n", "n": 1.5}, op_id=op_id, base_version=4)
    one = submission(given, None)
    assert (one.op_id, one.entity_id, one.base, one.after) == (op_id, entity, 4, None)
    assert {**json.loads(one.body), "base_version": 4} == given
    assert given["base_version"] == 4, "what was given is not changed"


def test_the_protocols_types_are_taken_as_well() -> None:
    operation = Submit(op_id=new_id(), entity_id=new_id(), base_version=3)
    one = submission(operation, None)
    received = decode_operation({**json.loads(one.body), "base_version": one.base})
    assert received == operation
    assert body_hash(received) == body_hash(operation)


def test_the_same_is_known_again_however_it_is_written() -> None:
    entity, op_id, after = new_id(), new_id(), new_id()
    given = update(entity, {"a": 1, "b": 2}, op_id=op_id)
    turned = dict(reversed(given.items()))
    assert submission(given, after).digest == submission(turned, after).digest
    others: list[tuple[dict[str, Any], str | None]] = [
        (update(entity, {"a": 1, "b": 3}, op_id=op_id), after),
        (given, new_id()),
        ({**given, "base_version": 1}, None),
        ({**given, "base_version": 2}, None),
    ]
    assert len({submission(one, then).digest for one, then in others} | {submission(given, after).digest}) == 5


@pytest.mark.parametrize(
    ("members", "after", "field", "said"),
    [
        ({"base_version": 1}, "x", "after", "not both"),
        ({}, None, "base_version", "say after="),
        ({"base_version": 0}, None, "base_version", "expected"),
        ({"base_version": 1, "op_id": "mine"}, None, "op_id", "UUID"),
        ({"base_version": 1, "colour": "red"}, None, "colour", "unknown field"),
        ({"base_version": 1, "data": {"answers": {1: 1, "1": 2}}}, None, "", "twice"),
        ({"base_version": 1, "data": {"answers": {"s": "\ud800"}}}, None, "", "JSON"),
        ({"base_version": 1, "data": {"answers": {"n": 2**70}}}, None, "data.answers", "64 bits"),
    ],
)
def test_what_the_server_would_refuse_is_refused(
    members: dict[str, Any], after: str | None, field: str, said: str
) -> None:
    with pytest.raises(OperationInvalid, match=said) as refused:
        submission({**update(new_id()), **members}, after)
    assert refused.value.field == field


def test_what_nests_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(2000):
        deep = [deep]
    for answers in ({"a": deep}, {"a": json.loads("[" * 13 + "]" * 13)}):
        with pytest.raises(OperationInvalid):
            submission(update(new_id(), answers, base_version=1), None)
