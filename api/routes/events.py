"""Reading the log by REST: the same positions, resets and bytes as on the socket. Only an ack moves the cursor."""

import asyncio
from typing import Any, Final

import structlog
from starlette.responses import Response
from starlette.types import Receive

from api.answers import events_page
from api.bodies import ClientGone
from api.descriptions.devices import EVENTS
from api.gathering import Gathering
from api.known_device import of_known_device
from api.long_poll import READ_DEVICES_MAX, LongPolls
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from shared.protocol.position import SEQ_MAX, Position
from shared.protocol.resume import GoOn, Implausible, LogLossSuspected, StartOver, acked_position, resume
from shared.store import log
from shared.store.log import Page, PageRequest
from shared.store.pool import Pool

__all__ = ["WAIT_MAX_S", "Events"]

WAIT_MAX_S: Final = 25
LIMIT_DEFAULT: Final = 256

_log = structlog.get_logger(__name__)


class Events:
    """`GET /api/v1/devices/{device_id}/events`"""

    def __init__(self, pool: Pool, polls: LongPolls, *, page_max: int, page_max_bytes: int) -> None:
        self._pool = pool
        self._pages: Gathering[PageRequest, Page] = Gathering(
            lambda requests: log.read_pages(pool, requests), batch_max=READ_DEVICES_MAX
        )
        self._polls = polls
        self._page_max = page_max
        self._page_max_bytes = page_max_bytes

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        operation = Operation(
            self.read, frozenset({"device", "operator"}), deadline_s=WAIT_MAX_S + 20.0, description=EVENTS
        )
        return Resource(guard, "/api/v1/devices/{device_id}/events", {"GET": operation})

    async def read(self, call: Call) -> Response:
        """A page after `after`; without events, wait for some if asked to."""
        limit = call.query.integer("limit", default=min(LIMIT_DEFAULT, self._page_max), low=1, high=self._page_max)
        wait_s = call.query.integer("wait", default=0, low=0, high=WAIT_MAX_S)
        after = call.query.position("after")
        if after is None:
            stand = await self._read_page(call, SEQ_MAX, 1)
            after = acked_position(epoch=stand.epoch, floor=stand.floor, head=stand.head, acked=stand.acked)
            if stand.acked < stand.floor:
                # It named no position, but what follows its acked one is gone: that has to be said, as on the socket.
                raise _reset(after, "retention")
        page = await self._read_page(call, after.seq, limit)
        after = await self._judge(call, after, page)
        if not page.events and wait_s > 0:
            later = await self._wait(call, after, limit, wait_s)
            if later is not None:
                await call.still_allowed()
                page = later
                after = await self._judge(call, after, page)
        position = Position(after.epoch, page.events[-1].seq) if page.events else after
        return events_page(position, page.head, page.events)

    async def _read_page(self, call: Call, after: int, limit: int) -> Page:
        request = PageRequest(call.device_id, after, limit, self._page_max_bytes)
        while True:
            page = await of_known_device(self._pool, call, lambda: self._pages.ask(call.device_id, request))
            if not page.deferred:
                return page

    async def _judge(self, call: Call, after: Position, page: Page) -> Position:
        """`after` again when the log goes on from it. Raises Problem (400, 410)."""
        match resume(after, epoch=page.epoch, floor=page.floor, head=page.head, acked=page.acked):
            case GoOn():
                return after
            case StartOver(position, reason):
                raise _reset(position, reason)
            case LogLossSuspected(claimed_epoch) if call.is_by_device:
                raise _reset(await self._raise_epoch(call, after, page, claimed_epoch), "log_loss")
            case LogLossSuspected() | Implausible():
                detail = f"after: this log never gave {after}; it is at {page.epoch}:{page.head}"
                raise Problem("invalid-parameter", detail, field="after")

    async def _raise_epoch(self, call: Call, after: Position, page: Page, claimed_epoch: int) -> Position:
        _log.warning("log loss suspected", after=str(after), epoch=page.epoch, head=page.head)
        await log.raise_device_epoch(
            self._pool, call.device_id, seen_epoch=page.epoch, claimed_epoch=max(page.epoch, claimed_epoch)
        )
        # Read again whoever raised it: another process may have been first.
        now = await self._read_page(call, SEQ_MAX, 1)
        return acked_position(epoch=now.epoch, floor=now.floor, head=now.head, acked=now.acked)

    async def _wait(self, call: Call, after: Position, limit: int, wait_s: int) -> Page | None:
        waiter = self._polls.join(call.device_id, after, max_rows=limit, max_bytes=self._page_max_bytes)
        if waiter is None:
            raise Problem("too-many-waiting", "too many requests wait already; ask without wait")
        call.trace.waited = True
        gone = asyncio.ensure_future(_disconnected(call.receive))
        try:
            either: set[asyncio.Future[Any]] = {waiter.page, gone}
            await asyncio.wait(either, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not waiter.page.done():
                raise ClientGone
            return waiter.page.result() if waiter.page.done() else None
        finally:
            self._polls.leave(waiter)
            gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _reset(position: Position, reason: str) -> Problem:
    detail = "events in between are gone: fetch the state, then go on from position"
    return Problem("reset", detail, position=str(position), reason=reason)
