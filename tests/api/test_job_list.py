"""The planner against a model: what a walk brings, page after page, is what was asked for, each once and in order."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.job_list import CREATED_MAX, CREATED_MIN, STATUSES, JobKey, JobQuestion, NotAllowed, key_of, plan
from shared.store.job_list import JobRow, Walk

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
TIMES = [CREATED_MIN, *(BEGIN + timedelta(microseconds=n) for n in range(4)), CREATED_MAX - timedelta(microseconds=1)]
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\x00")
EDGES = st.sampled_from("ab\ud7ff\ue000\U0010fffe\U0010ffff")
NAMES = st.text(st.one_of(EDGES, CHARACTERS), max_size=4)
KINDS = st.sampled_from(["photo", "table"])
DEVICES = st.sampled_from(["d1", "d2"])
ROWS = st.lists(
    st.builds(
        JobRow,
        st.uuids(allow_nil=False), DEVICES, KINDS, NAMES, st.sampled_from(["done", "dead", "queued"]),
        st.just(0), st.just(0), st.sampled_from(TIMES), st.none(), st.none(),
    ),
    max_size=12, unique_by=lambda row: row.job_id,
)  # fmt: skip
QUESTIONS = st.builds(
    JobQuestion,
    status=st.none() | st.sampled_from(["done", "dead"]),
    kind=st.none() | KINDS,
    device_id=st.none() | DEVICES,
    created_from=st.none() | st.sampled_from(TIMES),
    created_to=st.none() | st.sampled_from(TIMES),
    name_prefix=st.none() | NAMES,
    sort=st.sampled_from(["created_at", "name"]),
    descending=st.booleans(),
    only_device=st.none() | DEVICES,
)


def asked_for(question: JobQuestion, row: JobRow) -> bool:
    return (
        question.status in (None, row.status)
        and question.kind in (None, row.kind)
        and (question.device_id or question.only_device) in (None, row.device_id)
        and (question.created_from or CREATED_MIN) <= row.created_at < (question.created_to or CREATED_MAX)
        and row.name.startswith(question.name_prefix or "")
    )


def walked(walk: Walk, rows: list[JobRow]) -> list[JobRow]:
    """What the statement of this name returns, by its own words and without a limit."""
    index, *checked, way = walk.statement.split("_")
    column = {"status": "status", "kind": "kind", "device": "device_id"}.get(index)
    sort = "name" if index == "name" else "created_at"

    def key(row: JobRow) -> tuple[Any, ...]:
        return (*([getattr(row, column)] if column else []), getattr(row, sort), row.job_id)

    *begin, end = walk.key
    first, last = tuple(begin), (*begin[: 1 if column else 0], end)
    if way == "descending":
        found = [row for row in rows if key(row) < first and key(row)[:-1] >= last]
    else:
        found = [row for row in rows if key(row) > first and key(row)[:-1] < last]
    checks = {"device": ("status", "kind"), "status": ("kind",), "kind": ("status",)}[index] if checked else ()
    for name, value in zip(checks, walk.checks, strict=True):
        found = [row for row in found if value in (None, getattr(row, name))]
    return sorted(found, key=key, reverse=way == "descending")


def refusal(question: JobQuestion) -> NotAllowed | None:
    try:
        plan(question)
    except NotAllowed as error:
        return error
    return None


@given(QUESTIONS, ROWS, st.integers(1, 5))
def test_pages_bring_what_was_asked_for_each_once_and_in_order(
    question: JobQuestion, rows: list[JobRow], size: int
) -> None:
    if (refused := refusal(question)) is not None:
        assert getattr(question, refused.field) is not None
        assert str(refused).startswith(refused.field)
        return
    expected = sorted(
        (row for row in rows if asked_for(question, row)),
        key=lambda row: key_of(question, row), reverse=question.descending,
    )  # fmt: skip
    seen: list[JobRow] = []
    after: JobKey | None = None
    while found := walked(plan(question, after), rows)[:size]:
        seen += found
        after = key_of(question, found[-1])
        assert len(seen) <= len(rows)
    assert seen == expected


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        (JobQuestion(), "created_descending"),
        (JobQuestion(descending=False), "created_ascending"),
        (JobQuestion(status="dead", kind="photo"), "status_checked_descending"),
        (JobQuestion(status="done", kind="photo"), "kind_checked_descending"),
        (JobQuestion(status="done"), "status_descending"),
        (JobQuestion(status="dead", device_id="d1"), "device_checked_descending"),
        (JobQuestion(status="dead", kind="photo", only_device="d1"), "device_checked_descending"),
        (JobQuestion(device_id="d1", descending=False), "device_ascending"),
        (JobQuestion(sort="name", descending=False, name_prefix="a"), "name_ascending"),
    ],
)
def test_the_rarest_filter_picks_the_index(question: JobQuestion, statement: str) -> None:
    assert plan(question).statement == statement


@pytest.mark.parametrize(
    ("question", "field"),
    [
        (JobQuestion(status="dead", kind="photo", device_id="d1"), "device_id"),
        (JobQuestion(name_prefix="a"), "name_prefix"),
        (JobQuestion(sort="name", status="dead"), "status"),
        (JobQuestion(sort="name", created_to=BEGIN), "created_to"),
        (JobQuestion(sort="name", only_device="d1"), "sort"),
        (JobQuestion(sort="name", only_device="d1", name_prefix="a"), "name_prefix"),
        (JobQuestion(created_from=BEGIN, created_to=BEGIN), "created_to"),
    ],
)
def test_what_no_index_answers_is_refused_and_the_field_to_change_is_named(question: JobQuestion, field: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        plan(question)
    assert caught.value.field == field


def test_statuses_are_those_of_the_database() -> None:
    assert set(STATUSES) == {"queued", "running", "done", "retry", "dead", "cancelled"}
    assert isinstance(plan(JobQuestion()).key[1], UUID)
