"""Publishing by REST: one append for the whole request, one result for each item, then a hint to the bus."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final

from starlette.responses import Response

from api.answers import typed_answer
from api.descriptions.publish import PUBLISH, Published, PublishedEvent
from api.publication import Invalid, read_publication
from api.resource import Call, Guard, Operation, Resource
from shared.bus.message import EVENT, Message
from shared.bus.publisher import Publisher
from shared.clock import iso, wall
from shared.protocol.ids import time_ordered_uuid
from shared.store import log
from shared.store.log import Appended, NewEvent
from shared.store.pool import Pool
from shared.telemetry.metrics import API_EVENTS_RECORDED

__all__ = ["Publish"]

BODY_MAX_BYTES: Final = 4 * 1024 * 1024
INLINE_MAX_BYTES: Final = 64 * 1024


class Publish:
    """`POST /api/v1/events`"""

    def __init__(self, pool: Pool, publisher: Publisher, *, rand: Random) -> None:
        self._pool = pool
        self._publisher = publisher
        self._rand = rand

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        operation = Operation(
            self.publish,
            frozenset({"service"}),
            body=bytes,
            decode=False,
            body_max_bytes=BODY_MAX_BYTES,
            body_deadline_s=60.0,
            deadline_s=30.0,
            idempotency="optional",
            description=PUBLISH,
        )
        return Resource(guard, "/api/v1/events", {"POST": operation})

    async def publish(self, call: Call) -> Response:
        """Record what can be recorded. What the answer calls recorded is durable, whatever the bus does."""
        now = wall()
        # A large body is decoded beside the loop, so that it does not hold up the others.
        if len(call.body) <= INLINE_MAX_BYTES:
            read = self._read(call.body, now)
        else:
            read = await asyncio.to_thread(self._read, call.body, now)
        events = [item for item in read if isinstance(item, NewEvent)]
        appended = await log.append_committed(self._pool, events) if events else []
        for event, result in zip(events, appended, strict=True):
            if result.status == "recorded":
                self._publisher.offer(Message(EVENT, event.device_id, result.epoch, result.seq, event.body))
        return typed_answer(Published(_results(read, appended)))

    def _read(self, body: bytes, now: float) -> Sequence[NewEvent | Invalid]:
        return read_publication(body, now=iso(now), new_id=lambda: str(time_ordered_uuid(now, self._rand)))


def _results(read: Sequence[NewEvent | Invalid], appended: Sequence[Appended]) -> list[PublishedEvent]:
    rest = iter(appended)
    results: list[PublishedEvent] = []
    for item in read:
        if isinstance(item, Invalid):
            results.append(PublishedEvent("invalid", field=item.field, detail=item.detail))
        elif (result := next(rest)).status == "recorded":
            results.append(PublishedEvent("recorded", id=item.event_id, position=f"{result.epoch}:{result.seq}"))
        else:
            results.append(PublishedEvent(result.status))
        API_EVENTS_RECORDED.labels(results[-1].status).inc()
    return results
