"""Devices as a list for operators: by id, from any place on, with what is asked of each checked on the way."""

import re
from typing import Final

from starlette.responses import Response

from api.answers import typed_answer
from api.descriptions.devices import LIST_DEVICES, DevicesPage, DeviceSummary
from api.pagination import InvalidCursor, SignedCursors
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.shedding import Shed
from shared.protocol.ids import device_class_problem
from shared.store import fleet_view
from shared.store.fleet_view import DeviceRow
from shared.store.pool import Pool

__all__ = ["DeviceList"]

LIMIT_DEFAULT: Final = 100
_PREFIX: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_HUB: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class DeviceList:
    """`GET /api/v1/devices`"""

    def __init__(self, pool: Pool, cursors: SignedCursors, *, page_max: int) -> None:
        self._pool = pool
        self._cursors = cursors
        self._page_max = page_max

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        read = Operation(self.page, frozenset({"operator"}), description=LIST_DEVICES, shed=Shed.FIRST)
        return Resource(guard, "/api/v1/devices", {"GET": read})

    async def page(self, call: Call) -> Response:
        """A page. It may be short and still have a next one: then a walk came to its bound."""
        query = call.query
        prefix, hub, device_class = query.text("prefix"), query.text("hub"), query.text("class")
        _check("prefix", prefix, _PREFIX, "1 to 64 characters of a-z 0-9 . _ -, the first a letter or digit")
        _check("hub", hub, _HUB, "1 to 64 characters of A-Z a-z 0-9 . _ -")
        if device_class is not None and (problem := device_class_problem(device_class)):
            raise Problem("invalid-parameter", f"class: {problem}", field="class")
        state = query.choice("state", ("connected", "away", "behind"))
        limit = query.integer("limit", default=min(LIMIT_DEFAULT, self._page_max), low=1, high=self._page_max)
        filters = {"prefix": prefix or "", "hub": hub or "", "class": device_class or "", "state": state or ""}
        after = ""
        if (text := query.text("cursor")) is not None:
            try:
                after, _ = self._cursors.read(text, "devices", filters, (str, int))
            except InvalidCursor as error:
                raise Problem("invalid-parameter", str(error), field="cursor") from None
        page = await fleet_view.device_page(
            self._pool,
            after=after,
            prefix=prefix or "",
            limit=limit,
            device_class=device_class,
            hub=hub,
            state=state,
        )
        rows = {row.device_id: row for row in await fleet_view.devices(self._pool, page.device_ids)}
        following = None if page.last is None else self._cursors.sign("devices", filters, (page.last, 0))
        return typed_answer(DevicesPage([_shown(rows[one]) for one in page.device_ids if one in rows], following))


def _check(name: str, text: str | None, pattern: "re.Pattern[str]", rule: str) -> None:
    if text is not None and pattern.fullmatch(text) is None:
        raise Problem("invalid-parameter", f"{name} must be {rule}", field=name)


def _shown(row: DeviceRow) -> DeviceSummary:
    return DeviceSummary(
        device_id=row.device_id,
        device_class=row.device_class,
        position=f"{row.epoch}:{row.acked}",
        head=row.head,
        lag=max(0, row.head - max(row.acked, row.floor)),
        hub=row.hub,
    )
