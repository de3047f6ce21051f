"""Schedules for operators: make one, look, pause, let it go on, forget it. Workers fire them."""

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from starlette.responses import Response

from api.answers import moment, typed_answer
from api.descriptions.schedules import (
    ENABLE_SCHEDULE,
    LIST_SCHEDULES,
    PUT_SCHEDULE,
    READ_SCHEDULE,
    REMOVE_SCHEDULE,
    Schedule,
    ScheduleBody,
    Schedules,
    ScheduleSwitch,
)
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.routes.job_commands import DATA_MAX_BYTES, content_of, kind_problem
from shared.protocol.ids import device_id_problem, file_name_problem
from shared.schedule_rules import Rule, WrongRule
from shared.store import schedules
from shared.store.pool import Pool
from shared.store.schedules import NewSchedule
from shared.store.schedules import Schedule as Row
from shared.tokens import Scope

__all__ = ["ScheduleRoutes"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


class ScheduleRoutes:
    """`GET /api/v1/schedules`, `GET | PUT | PATCH | DELETE /api/v1/schedules/{schedule}`"""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def resources(self, guard: Guard) -> Sequence[Resource]:
        """For the route table."""
        operator: frozenset[Scope] = frozenset({"operator"})
        put = Operation(
            self.put, operator, body=ScheduleBody, body_max_bytes=8 * DATA_MAX_BYTES, description=PUT_SCHEDULE
        )
        switch = Operation(self.switch, operator, body=ScheduleSwitch, description=ENABLE_SCHEDULE)
        one = {
            "GET": Operation(self.read, operator, description=READ_SCHEDULE),
            "PUT": put,
            "PATCH": switch,
            "DELETE": Operation(self.remove, operator, description=REMOVE_SCHEDULE),
        }
        return [
            Resource(guard, "/api/v1/schedules", {"GET": Operation(self.listed, operator, description=LIST_SCHEDULES)}),
            Resource(guard, "/api/v1/schedules/{schedule}", one),
        ]

    async def listed(self, call: Call) -> Response:
        """All of them: there are few."""
        del call
        return typed_answer(Schedules([_shown(row) for row in await schedules.listed(self._pool)]))

    async def read(self, call: Call) -> Response:
        """One of them."""
        return await self._answer(_name(call))

    async def put(self, call: Call) -> Response:
        """Make it, or replace it; a paused one stays paused. Saying it twice changes nothing."""
        name, body = _name(call), call.body
        await self._check(body)
        device_ids, content = sorted(set(body.device_ids)), content_of(body.data)
        if len(device_ids) * len(content.encode()) > schedules.FIRING_MAX_BYTES:
            detail = f"data: times the devices is more than {schedules.FIRING_MAX_BYTES} bytes; make several schedules"
            raise Problem("invalid-body", detail, field="data")
        # In a thread: which zones there are the system's files say, and a rule may name a day decades away.
        rule, next_at = await asyncio.to_thread(_ruled, body, await schedules.now(self._pool))
        new = NewSchedule(
            name,
            rule.cron,
            rule.every_s,
            rule.timezone,
            device_ids,
            body.kind,
            body.name,
            content,
            body.priority,
            next_at,
            call.claims.principal,
        )
        made = await schedules.put(self._pool, new)
        if made is None:
            most = schedules.SCHEDULES_MAX
            raise Problem("wrong-state", f"there are {most:,} schedules: remove one first", state="full")
        return await self._answer(name, 201 if made else 200)

    async def switch(self, call: Call) -> Response:
        """Pause it, or let it go on from now."""
        name = _name(call)
        row = await self._row(name)
        next_at = now = await schedules.now(self._pool)
        if call.body.enabled:  # a rule that cannot be followed here can be paused all the same
            try:
                next_at = await asyncio.to_thread(lambda: row.rule.next_after(now))
            except WrongRule as error:
                raise Problem("wrong-state", str(error), state="paused") from None
        await schedules.enable(self._pool, name, enabled=call.body.enabled, next_at=next_at)
        return await self._answer(name)

    async def remove(self, call: Call) -> Response:
        """Forget it."""
        await schedules.remove(self._pool, _name(call))
        return Response(status_code=204)

    async def _check(self, body: ScheduleBody) -> None:
        """All but its rule. Raises Problem (400, 404) naming the member."""
        for device_id in body.device_ids:
            if problem := device_id_problem(device_id):
                raise Problem("invalid-body", problem, field="device_ids")
        if problem := kind_problem(body.kind):
            raise Problem("invalid-body", problem, field="kind")
        if problem := file_name_problem(body.name):
            raise Problem("invalid-body", f"name: {problem}", field="name")
        if unknown := await schedules.unknown_devices(self._pool, body.device_ids):
            raise Problem("not-found", f"there is no device {', '.join(unknown)}", field="device_ids")

    async def _answer(self, name: str, status: int = 200) -> Response:
        return typed_answer(_shown(await self._row(name)), status)

    async def _row(self, name: str) -> Row:
        row = await schedules.get(self._pool, name)
        if row is None:
            raise Problem("not-found", "there is no such schedule")
        return row


def _ruled(body: ScheduleBody, now: datetime) -> tuple[Rule, datetime]:
    """Its rule, and when it is next. Raises Problem (400)."""
    try:
        rule = Rule(body.cron, body.every_s, body.timezone)
    except WrongRule as error:
        raise Problem("invalid-body", str(error), field=error.field) from None
    return rule, rule.next_after(now)


def _name(call: Call) -> str:
    name = call.path["schedule"]
    if _NAME.fullmatch(name) is None:
        detail = "a schedule's name is 1 to 64 characters of a-z 0-9 . _ -, and begins with a letter or a digit"
        raise Problem("invalid-parameter", detail, field="schedule")
    return name


def _shown(row: Row) -> Schedule:
    return Schedule(
        schedule=row.name,
        cron=row.cron,
        every_s=row.every_s,
        timezone=row.timezone,
        device_ids=row.device_ids,
        kind=row.kind,
        name=row.request_name,
        data=row.body,
        priority=row.priority,
        enabled=row.enabled,
        next_at=moment(row.next_at) if row.enabled else None,
        fired_at=moment(row.fired_at),
        created_by=row.created_by,
        created_at=moment(row.created_at),
    )
