"""What is asked for: every filter and sort that lists have, and how each would be asked with OFFSET."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from api.job_list import JobQuestion
from loadtests.bench_jobs.crowd import BEGIN, BIG_DEVICE

__all__ = ["POINTS", "Point", "by_offset", "where_of"]


@dataclass(frozen=True)
class Point:
    """One list."""

    name: str
    question: JobQuestion

    @property
    def parameters(self) -> dict[str, str]:
        """The query of the request."""
        question = self.question
        given: dict[str, str | datetime | None] = {
            name: getattr(question, name)
            for name in ("status", "kind", "device_id", "created_from", "created_to", "name_prefix", "sort")
        }
        texts = {
            name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
            for name, value in given.items()
            if value is not None
        }
        return texts | {"order": "desc" if question.descending else "asc"}


def _both(name: str, question: JobQuestion) -> list[Point]:
    return [
        Point(f"{name}, newest first", replace(question, descending=True)),
        Point(f"{name}, oldest first", replace(question, descending=False)),
    ]


_WEEK: Final = JobQuestion(created_from=BEGIN + timedelta(days=10), created_to=BEGIN + timedelta(days=17))
_A_TO_Z: Final = JobQuestion(sort="name", descending=False)

POINTS: Final = [
    *_both("all", JobQuestion()),
    *_both("a week", _WEEK),
    *_both("done", JobQuestion(status="done")),
    *_both("dead (0.5 %)", JobQuestion(status="dead")),
    *_both("queued (newest)", JobQuestion(status="queued")),
    *_both("photo (55 %)", JobQuestion(kind="photo")),
    *_both("model (10 %)", JobQuestion(kind="model")),
    *_both("large device", JobQuestion(device_id=BIG_DEVICE)),
    *_both("small device", JobQuestion(device_id="truck-7")),
    Point("name, a to z", _A_TO_Z),
    Point("name, z to a", replace(_A_TO_Z, descending=True)),
    Point("name IMG_…, a to z", replace(_A_TO_Z, name_prefix="IMG_")),
    Point("name IMG_12…, z to a", replace(_A_TO_Z, name_prefix="IMG_12", descending=True)),
    *_both("photo, done", JobQuestion(kind="photo", status="done")),
    *_both("large device, model", JobQuestion(device_id=BIG_DEVICE, kind="model")),
    *_both("large device, dead", JobQuestion(device_id=BIG_DEVICE, status="dead")),
    *_both("dead, model", JobQuestion(status="dead", kind="model")),
]


def where_of(question: JobQuestion, *, index_only: bool = False) -> tuple[str, list[object]]:
    """The question as a plain condition with its arguments. `index_only`: without a filter checked on the way."""
    conditions: list[str] = []
    arguments: list[object] = []

    def add(condition: str, value: object) -> None:
        arguments.append(value)
        conditions.append(condition.format(f"${len(arguments)}"))

    equal = [("device_id", question.device_id), ("current_status", question.status), ("kind", question.kind)]
    if question.status == "done":
        equal = [equal[0], equal[2], equal[1]]
    given = [(name, value) for name, value in equal if value is not None]
    for name, value in given[:1] if index_only else given:
        add(f"{name} = {{}}", value)
    if question.created_from is not None:
        add("created_at >= {}", question.created_from)
    if question.created_to is not None:
        add("created_at < {}", question.created_to)
    if question.name_prefix is not None:
        add("starts_with(name, {})", question.name_prefix)
    return " AND ".join(conditions) or "true", arguments


def by_offset(question: JobQuestion, columns: str, *, index_only: bool = False) -> tuple[str, list[object]]:
    """The same list as a statement with OFFSET; its last two parameters are limit and offset."""
    where, arguments = where_of(question, index_only=index_only)
    way = "DESC" if question.descending else "ASC"
    sort = question.sort
    count = len(arguments)
    order = f"ORDER BY {sort} {way}, job_id {way} LIMIT ${count + 1} OFFSET ${count + 2}"
    return f"SELECT {columns} FROM jobs WHERE {where} {order}", arguments
