"""The planner against a model: what a walk brings, page after page, is what was asked for, each once and in order."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.inspection_list import STATUSES, InspectionKey, InspectionQuestion, key_of, plan
from api.job_list import CREATED_MAX, CREATED_MIN, NotAllowed
from shared.store.inspections import ListedInspection, Walk

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
TIMES = [CREATED_MIN, *(BEGIN + timedelta(microseconds=n) for n in range(4)), CREATED_MAX - timedelta(microseconds=1)]
TEMPLATES = [UUID(int=1), UUID(int=2)]
AT = st.sampled_from(TIMES)
WHO = st.sampled_from(["d1", "d2"])
ROWS = st.lists(
    st.builds(
        ListedInspection,
        st.uuids(allow_nil=False), WHO, st.sampled_from(TEMPLATES), st.just(1), st.sampled_from(STATUSES), st.just("t"),
        st.just(1), st.booleans(), AT, AT, st.none() | AT, st.none(), st.none(),
    ),
    max_size=12, unique_by=lambda row: row.inspection_id,
)  # fmt: skip
QUESTIONS = st.builds(
    InspectionQuestion,
    inspector_id=st.none() | WHO,
    template_id=st.none() | st.sampled_from(TEMPLATES),
    is_deleted=st.none() | st.booleans(),
    status=st.none() | st.sampled_from(STATUSES),
    created_from=st.none() | AT,
    created_to=st.none() | AT,
    submitted_from=st.none() | AT,
    submitted_to=st.none() | AT,
    sort=st.sampled_from(["created_at", "submitted_at"]),
    descending=st.booleans(),
    only_inspector=st.none() | WHO,
)


def asked_for(question: InspectionQuestion, row: ListedInspection) -> bool:
    if question.sort == "submitted_at" and row.submitted_at is None:
        return False
    submitted = row.submitted_at or BEGIN
    return (
        (question.inspector_id or question.only_inspector) in (None, row.inspector_id)
        and question.template_id in (None, row.template_id)
        and question.is_deleted in (None, row.is_deleted)
        and question.status in (None, row.status)
        and (question.created_from or CREATED_MIN) <= row.created_at < (question.created_to or CREATED_MAX)
        and (question.submitted_from or CREATED_MIN) <= submitted < (question.submitted_to or CREATED_MAX)
    )


def walked(walk: Walk, rows: list[ListedInspection]) -> list[ListedInspection]:
    """What the statement of this name returns, by its own words and without a limit."""
    index, _, way = walk.statement.partition("_")
    sort = "submitted_at" if index == "submitted" else "created_at"
    wanted: Any = {}
    if index in ("created", "submitted"):
        at, an_id, end = walk.arguments
        wanted = [{}]
    else:
        first, at, an_id, end, statuses = walk.arguments
        assert isinstance(statuses, list)
        column = {"inspector": "inspector_id", "template": "template_id", "status": "is_deleted"}[index]
        firsts = first if isinstance(first, list) else [first] * len(statuses)
        wanted = [{column: one, "status": status} for one, status in zip(firsts, statuses, strict=True)]

    def key(row: ListedInspection) -> tuple[Any, ...]:
        return getattr(row, sort), row.inspection_id

    found = [row for row in rows if any(all(getattr(row, n) == v for n, v in one.items()) for one in wanted)]
    found = [row for row in found if getattr(row, sort) is not None]
    if way == "descending":
        found = [row for row in found if key(row) < (at, an_id) and key(row)[0] >= end]
    else:
        found = [row for row in found if key(row) > (at, an_id) and key(row)[0] < end]
    return sorted(found, key=key, reverse=way == "descending")


def refusal(question: InspectionQuestion) -> NotAllowed | None:
    try:
        plan(question)
    except NotAllowed as error:
        return error
    return None


@given(QUESTIONS, ROWS, st.integers(1, 5))
def test_pages_bring_what_was_asked_for_each_once_and_in_order(
    question: InspectionQuestion, rows: list[ListedInspection], size: int
) -> None:
    if (refused := refusal(question)) is not None:
        assert getattr(question, refused.field) is not None
        assert str(refused).startswith(refused.field)
        return
    expected = sorted(
        (row for row in rows if asked_for(question, row)),
        key=lambda row: key_of(question, row), reverse=question.descending,
    )  # fmt: skip
    seen: list[ListedInspection] = []
    after: InspectionKey | None = None
    while found := walked(plan(question, after), rows)[:size]:
        seen += found
        after = key_of(question, found[-1])
        assert len(seen) <= len(rows)
    assert seen == expected


@pytest.mark.parametrize(
    ("question", "field"),
    [
        (InspectionQuestion(inspector_id="d1", template_id=TEMPLATES[0]), "template_id"),
        (InspectionQuestion(template_id=TEMPLATES[0], is_deleted=False), "is_deleted"),
        (InspectionQuestion(submitted_from=BEGIN), "submitted_from"),
        (InspectionQuestion(sort="submitted_at", status="draft"), "status"),
        (InspectionQuestion(sort="submitted_at", created_to=BEGIN), "created_to"),
        (InspectionQuestion(sort="submitted_at", inspector_id="d1"), "inspector_id"),
        (InspectionQuestion(only_inspector="d1", is_deleted=False), "is_deleted"),
        (InspectionQuestion(only_inspector="d1", sort="submitted_at"), "sort"),
        (InspectionQuestion(created_from=BEGIN, created_to=BEGIN), "created_to"),
        (InspectionQuestion(sort="submitted_at", submitted_from=BEGIN, submitted_to=BEGIN), "submitted_to"),
    ],
)
def test_what_no_index_answers_is_refused_and_what_is_allowed_is_said(question: InspectionQuestion, field: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        plan(question)
    assert caught.value.field == field
