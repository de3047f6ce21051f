"""The responses a device has: the state to fetch when the log cannot go on from where the device was."""

from typing import Any, cast

import msgspec
from starlette.responses import Response

from api.answers import moment, typed_answer
from api.descriptions.devices import RESPONSES, RequestNamed, ResponsesPage, ResponseSummary
from api.known_device import of_known_device
from api.pagination import InvalidCursor, PageCursor, decode_cursor, encode_cursor
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.shedding import Shed
from shared.store import devices, response_list
from shared.store.pool import Pool
from shared.store.response_list import ResponseRow

__all__ = ["Responses"]

LIMIT_DEFAULT = 100


class Responses:
    """`GET /api/v1/devices/{device_id}/responses`"""

    def __init__(self, pool: Pool, *, page_max: int) -> None:
        self._pool = pool
        self._page_max = page_max

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        operation = Operation(self.read, frozenset({"device", "operator"}), description=RESPONSES, shed=Shed.FIRST)
        return Resource(guard, "/api/v1/devices/{device_id}/responses", {"GET": operation})

    async def read(self, call: Call) -> Response:
        """A page, newest first. One row more than asked for tells whether there is a next page."""
        limit = call.query.integer("limit", default=min(LIMIT_DEFAULT, self._page_max), low=1, high=self._page_max)
        before = _cursor_of(call)
        rows = await response_list.page(self._pool, call.device_id, before=before, limit=limit + 1)
        if not rows:
            await of_known_device(self._pool, call, lambda: devices.get(self._pool, call.device_id))
        shown = rows[:limit]
        following = None
        if len(rows) > limit:
            following = encode_cursor(PageCursor(shown[-1].completed_at, shown[-1].response_id))
        return typed_answer(ResponsesPage([_shown(row) for row in shown], following))


def _cursor_of(call: Call) -> PageCursor | None:
    text = call.query.text("cursor")
    try:
        return decode_cursor(text) if text is not None else None
    except InvalidCursor as error:
        raise Problem("invalid-parameter", str(error), field="cursor") from None


def _shown(row: ResponseRow) -> ResponseSummary:
    return ResponseSummary(
        response_id=str(row.response_id),
        job_id=None if row.job_id is None else str(row.job_id),
        request=None if row.request_name is None else RequestNamed(row.request_name),
        outcome=row.outcome,  # type: ignore[arg-type]  # the table allows these two
        reason=row.reason,
        event_id=row.event_id,
        completed_at=moment(row.completed_at),
        files=cast("Any", msgspec.Raw(row.files)),  # as the database says it
        answer=None if row.answer is None else cast("Any", msgspec.Raw(row.answer)),
    )
