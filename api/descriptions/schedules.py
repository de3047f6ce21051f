"""Schedules: what makes jobs by the clock."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from api.description import Answer, Description
from api.descriptions.common import DeviceId, FileName, Moment
from shared.schedule_rules import EVERY_MAX_S, EVERY_MIN_S
from shared.store.schedules import DEVICES_MAX
from shared.store.turns import PRIORITY_MAX, PRIORITY_MIN

__all__ = [
    "ENABLE_SCHEDULE",
    "LIST_SCHEDULES",
    "PUT_SCHEDULE",
    "READ_SCHEDULE",
    "REMOVE_SCHEDULE",
    "Schedule",
    "ScheduleBody",
    "ScheduleSwitch",
    "Schedules",
]

_Kind = Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z0-9][a-z0-9_-]{0,63}$", "maxLength": 64})]
_Cron = Annotated[str, Meta(max_length=128)]
_Zone = Annotated[str, Meta(max_length=64)]


class ScheduleBody(Struct, frozen=True, forbid_unknown_fields=True):
    """When (`cron` in `timezone`, or `every_s`), and for each of `device_ids` the job that is then queued."""

    device_ids: Annotated[list[DeviceId], Meta(min_length=1, max_length=DEVICES_MAX)]
    kind: _Kind
    name: FileName
    data: str | dict[str, Any] | list[Any]
    cron: _Cron | None = None
    every_s: Annotated[int, Meta(ge=EVERY_MIN_S, le=EVERY_MAX_S)] | None = None
    timezone: _Zone = "UTC"
    priority: Annotated[int, Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)] | None = None


class ScheduleSwitch(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether it goes on."""

    enabled: bool


class Schedule(Struct, frozen=True):
    """A schedule. `name` is the request's file name, `fired_at` when it last queued its jobs."""

    schedule: str
    cron: str | None
    every_s: int | None
    timezone: str
    device_ids: list[DeviceId]
    kind: str
    name: str
    data: str
    priority: int | None
    enabled: bool
    next_at: Moment | None
    fired_at: Moment | None
    created_by: str
    created_at: Moment


class Schedules(Struct, frozen=True):
    """All there are, by name."""

    schedules: list[Schedule]


_ABOUT: Final = (
    "Each firing queues one job for each device, once, whichever worker does it. Firings missed because no worker ran "
    "are made up for by one. A device whose job of the time before has not ended gets none."
)
LIST_SCHEDULES: Final = Description(
    id="listSchedules",
    summary="What makes jobs by the clock",
    answers={200: Answer("All schedules; there are at most 1,000.", Schedules)},
)
READ_SCHEDULE: Final = Description(
    id="readSchedule",
    summary="One schedule",
    answers={200: Answer("The schedule.", Schedule)},
    problems=("not-found",),
)
PUT_SCHEDULE: Final = Description(
    id="putSchedule",
    summary="Make a schedule, or replace it",
    about=_ABOUT,
    answers={200: Answer("It was replaced.", Schedule), 201: Answer("It was made.", Schedule)},
    problems=("not-found", "wrong-state"),
    body_example={
        "cron": "30 6 * * MON-FRI",
        "timezone": "Europe/Berlin",
        "device_ids": ["truck-7"],
        "kind": "table",
        "name": "daily.csv",
        "data": "sku,count\n",
    },
)
ENABLE_SCHEDULE: Final = Description(
    id="switchSchedule",
    summary="Pause a schedule, or let it go on",
    about="It goes on from now: what was missed while it was paused is not made up for.",
    answers={200: Answer("The schedule.", Schedule)},
    problems=("not-found", "wrong-state"),
    body_example={"enabled": False},
)
REMOVE_SCHEDULE: Final = Description(
    id="removeSchedule",
    summary="Forget a schedule",
    about="Its jobs stay.",
    answers={204: Answer("It is gone, also when it was before.")},
)
