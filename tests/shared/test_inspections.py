from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inspections import Applied, Conflict, Inspection, Outcome, Rejected, Who, apply, merged, state_of
from shared.protocol.operations import ANSWERS_MAX_BYTES, Invalid, decode_operation
from tests.shared.sync.samples import TEMPLATE, an_id, change, create

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
TRUCK = Who("device", "truck-7")
OLGA = Who("operator", "olga")


def do(entity: Inspection | None, operation: dict[str, Any], who: Who = TRUCK, *, now: datetime = NOW) -> Outcome:
    decoded = decode_operation(operation)
    assert not isinstance(decoded, Invalid)
    return apply(entity, decoded, who=who, now=now, templates={TEMPLATE: 3})


def applied(entity: Inspection | None, operation: dict[str, Any], who: Who = TRUCK) -> Inspection:
    outcome = do(entity, operation, who)
    assert isinstance(outcome, Applied), outcome
    return outcome.entity


def draft(**changes: Any) -> Inspection:
    return applied(None, create(an_id()))._replace(**changes)


def refusal(outcome: Outcome) -> tuple[int, str]:
    assert isinstance(outcome, Rejected), outcome
    return outcome.http, outcome.code


def test_an_inspection_goes_its_way_and_each_step_raises_its_version() -> None:
    entity_id = an_id()
    made = applied(None, create(entity_id, answers={"left": 1, "right": None, "x": {"y": None, "z": 1}}))
    assert (str(made.inspection_id), made.inspector_id, made.status, made.version) == (entity_id, "truck-7", "draft", 1)
    assert (made.template_version, orjson.loads(made.answers)) == (3, {"left": 1, "x": {"z": 1}})
    updated = applied(made, change("update", entity_id, 1, answers={"left": None, "right": 2}, title="Both"))
    assert (updated.title, orjson.loads(updated.answers), updated.version) == ("Both", {"right": 2, "x": {"z": 1}}, 2)
    submitted = applied(updated, change("submit", entity_id, 2))
    assert (submitted.status, submitted.submitted_at) == ("submitted", NOW)
    rejected = applied(submitted, change("reject", entity_id, 3, note="blurred"), OLGA)
    assert (rejected.status, rejected.note, rejected.decided_by) == ("rejected", "blurred", "olga")
    again = applied(rejected, change("reopen", entity_id, 4))
    assert (again.status, again.note) == ("draft", "blurred")
    submitted = applied(again, change("submit", entity_id, 5))
    assert (submitted.note, submitted.decided_by, submitted.decided_at) == (None, None, None)
    approved = applied(submitted, change("approve", entity_id, 6), OLGA)
    assert (approved.status, approved.version, approved.decided_at) == ("approved", 7, NOW)
    assert applied(approved, change("delete", entity_id, 7), OLGA).is_deleted


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("update", {"draft"}),
        ("submit", {"draft"}),
        ("approve", {"submitted"}),
        ("reject", {"submitted"}),
        ("reopen", {"rejected"}),
        ("delete", {"draft", "submitted", "approved", "rejected"}),
    ],
)
def test_a_change_takes_only_the_statuses_that_lead_to_it(kind: str, taken: set[str]) -> None:
    data = {"update": {"title": "T"}, "reject": {"note": "no"}}.get(kind, {})
    for status in ("draft", "submitted", "approved", "rejected"):
        outcome = do(draft(status=status), change(kind, an_id(), 1, **data), OLGA)
        if status in taken:
            assert isinstance(outcome, Applied)
        else:
            assert refusal(outcome) == (422, "wrong_status")


def test_a_version_that_its_author_has_not_seen_is_a_conflict_with_the_state_as_it_is() -> None:
    entity = draft(version=4, status="submitted")
    for base in (1, 3, 5):
        assert do(entity, change("update", an_id(), base, title="T")) == Conflict(entity)
    assert do(entity, create(an_id())) == Conflict(entity)


def test_a_device_sees_and_changes_only_its_own() -> None:
    entity = draft()
    other = Who("device", "truck-8")
    assert refusal(do(entity, change("update", an_id(), 1, title="T"), other)) == (404, "not_found")
    assert refusal(do(None, change("update", an_id(), 1, title="T"), other)) == (404, "not_found")
    assert refusal(do(entity, create(an_id()), other)) == (403, "forbidden")
    assert isinstance(do(entity, change("update", an_id(), 1, title="T"), OLGA), Applied)


def test_only_operators_decide_and_services_change_nothing() -> None:
    entity = draft(status="submitted")
    assert refusal(do(entity, change("approve", an_id(), 1))) == (403, "forbidden")
    assert refusal(do(entity, change("reject", an_id(), 1, note="no"))) == (403, "forbidden")
    assert refusal(do(entity, change("delete", an_id(), 1))) == (422, "wrong_status")
    service = Who("service", "billing")
    assert refusal(do(entity, change("submit", an_id(), 1), service)) == (403, "forbidden")
    assert refusal(do(None, create(an_id()), service)) == (403, "forbidden")


def test_what_was_deleted_stays_deleted() -> None:
    entity = draft(is_deleted=True)
    for base in (1, 2):
        assert refusal(do(entity, change("update", an_id(), base, title="T"))) == (404, "deleted")
    assert do(entity, create(an_id())) == Conflict(entity)


def test_a_template_must_be_there_in_the_version_that_is_named() -> None:
    assert refusal(do(None, create(an_id(), template_id=an_id()))) == (422, "unknown_template")
    assert refusal(do(None, create(an_id(), template_version=4))) == (422, "unknown_template_version")
    assert applied(None, create(an_id(), template_version=2)).template_version == 2


def test_answers_that_grow_too_large_by_a_patch_are_refused() -> None:
    half = "x" * (ANSWERS_MAX_BYTES - 100)
    entity = applied(None, create(an_id(), answers={"a": half}))
    assert refusal(do(entity, change("update", an_id(), 1, answers={"b": half}))) == (422, "too_large")
    assert isinstance(do(entity, change("update", an_id(), 1, answers={"b": half, "a": None})), Applied)


def test_a_clock_that_was_set_back_makes_no_change_older_than_the_one_before() -> None:
    outcome = do(draft(), change("update", an_id(), 1, title="T"), now=NOW - timedelta(days=1))
    assert isinstance(outcome, Applied)
    assert outcome.entity.updated_at == NOW


def test_the_state_goes_out_with_its_answers_as_they_are_stored() -> None:
    shown = orjson.loads(msgspec.json.encode(state_of(draft())))
    assert (shown["answers"], shown["created_at"]) == ({"left": 1}, "2026-11-22T08:30:00.000000Z")
    assert shown.keys() == set(Inspection._fields)


def test_the_examples_of_the_merge_patch_standard_hold() -> None:
    # RFC 7396, appendix A.
    for target, patch, result in (
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ):
        assert merged(target, patch) == result


_json = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(_json, _json)
def test_a_patch_applied_twice_is_a_patch_applied_once(target: Any, patch: Any) -> None:
    before = orjson.dumps(target)
    once = merged(target, patch)
    assert merged(once, patch) == once
    assert orjson.dumps(target) == before
