"""Which walk along which index answers a question for jobs [pure].

Every question that is allowed has one statement among fixed ones; nothing of it is put into SQL. One filter picks the
index, a second is checked along the way. What would need an index that is not there is refused, and the refusal names
what may be asked instead.

The end of a range that a walk begins at is turned into a key, as if a page had just ended there: before the first of
an id, or after the last. So a first page, one after a cursor and one of a range are the same walk.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias, get_args
from uuid import UUID

from shared.store.job_list import JobRow, Walk
from shared.store.jobs import JobStatus

__all__ = [
    "CREATED_MAX",
    "CREATED_MIN",
    "SORTS",
    "STATUSES",
    "JobKey",
    "JobQuestion",
    "NotAllowed",
    "identity",
    "key_of",
    "plan",
]

Sort = Literal["created_at", "name"]
SORTS: Final[tuple[str, ...]] = get_args(Sort)
STATUSES: Final[tuple[str, ...]] = get_args(JobStatus)

JobKey: TypeAlias = tuple[datetime, UUID] | tuple[str, UUID]
"""What a page is continued by: the value that is sorted by, and the id."""

CREATED_MIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
CREATED_MAX: Final = datetime(9999, 12, 31, tzinfo=UTC)

_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=2**128 - 1)
_TICK: Final = timedelta(microseconds=1)
_LAST_CHARACTER: Final = "\U0010ffff"
# Above every name: names have at most 200 bytes, and the last character has four.
_LAST_NAME: Final = _LAST_CHARACTER * 64


class NotAllowed(ValueError):
    """The filters and the sort do not go together. `field` is the one to change, `str()` says what is allowed."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


@dataclass(frozen=True, slots=True)
class JobQuestion:
    """What is asked for. `created_from` is part of the range, `created_to` is not.

    `only_device` is the device that may see no other's jobs; it is no filter that the caller chose.
    """

    status: JobStatus | None = None
    kind: str | None = None
    device_id: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    name_prefix: str | None = None
    sort: Sort = "created_at"
    descending: bool = True
    only_device: str | None = None


def plan(question: JobQuestion, after: JobKey | None = None) -> Walk:
    """The walk that answers it, from the beginning or after a key. Raises NotAllowed."""
    _check(question)
    order = "descending" if question.descending else "ascending"
    if question.sort == "name":
        return Walk(f"name_{order}", _name_key(question, after))
    key = _created_key(question, after)
    device_id = question.device_id or question.only_device
    if device_id is not None:
        return _walk("device", order, (device_id, *key), (question.status, question.kind))
    # Nearly all jobs are done some day: then the kind is the rarer of the two.
    if question.status is not None and (question.kind is None or question.status != "done"):
        return _walk("status", order, (question.status, *key), (question.kind,))
    if question.kind is not None:
        return _walk("kind", order, (question.kind, *key), (question.status,))
    return Walk(f"created_{order}", key)


def _walk(index: str, order: str, key: tuple[object, ...], checks: tuple[str | None, ...]) -> Walk:
    if all(check is None for check in checks):
        return Walk(f"{index}_{order}", key)
    return Walk(f"{index}_checked_{order}", key, checks)


def key_of(question: JobQuestion, row: JobRow) -> JobKey:
    """The key that continues after this row."""
    return (row.name, row.job_id) if question.sort == "name" else (row.created_at, row.job_id)


def identity(question: JobQuestion) -> tuple[str, dict[str, str]]:
    """The sort and the filters that a cursor is good for, also the filter that the caller did not choose."""
    given = {name: value for name, value in asdict(question).items() if value is not None}
    sort = f"jobs {given.pop('sort')} {'desc' if given.pop('descending') else 'asc'}"
    return sort, {name: value.isoformat() if isinstance(value, datetime) else value for name, value in given.items()}


def _check(question: JobQuestion) -> None:
    equal = [name for name in ("status", "kind", "device_id") if getattr(question, name) is not None]
    ranged = [name for name in ("created_from", "created_to") if getattr(question, name) is not None]
    if question.sort == "name":
        if question.only_device is not None:
            field = "sort" if question.name_prefix is None else "name_prefix"
            raise NotAllowed(
                field, f"{field}: a device's jobs are sorted by created_at only; leave sort=name and name_prefix out"
            )
        if equal or ranged:
            field = (equal + ranged)[0]
            raise NotAllowed(
                field, f"{field}: with sort=name only name_prefix is allowed; leave {field} out or sort by created_at"
            )
    elif question.name_prefix is not None:
        raise NotAllowed("name_prefix", "name_prefix: allowed with sort=name and no other filter")
    elif len(equal) > 2:
        raise NotAllowed(
            equal[-1],
            "device_id: allowed are two of status, kind and device_id at most, beside created_from and created_to",
        )
    low, high = question.created_from, question.created_to
    if low is not None and high is not None and low >= high:
        raise NotAllowed("created_to", "created_to must be later than created_from")


def _created_key(question: JobQuestion, after: JobKey | None) -> tuple[object, ...]:
    """Where the walk begins (a time and an id), and the time that ends it."""
    low, high = question.created_from or CREATED_MIN, question.created_to or CREATED_MAX
    if question.descending:
        return (*(after or (high, _FIRST_ID)), low)
    return (*(after or (low - _TICK, _LAST_ID)), high)


def _name_key(question: JobQuestion, after: JobKey | None) -> tuple[object, ...]:
    low, high = question.name_prefix or "", _after_prefix(question.name_prefix or "")
    if question.descending:
        return (*(after or (high, _FIRST_ID)), low)
    return (*(after or (low, _FIRST_ID)), high)


def _after_prefix(prefix: str) -> str:
    """The smallest text above all that begin with the prefix, as bytes compare."""
    prefix = prefix.rstrip(_LAST_CHARACTER)
    if not prefix:
        return _LAST_NAME
    following = ord(prefix[-1]) + 1
    # What follows the last character before the surrogates is the first one after them.
    return prefix[:-1] + chr(0xE000 if following == 0xD800 else following)
