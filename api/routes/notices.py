"""Notices by REST: handed to the bus for every hub, recorded nowhere, delivered at most once.

One request reaches every connected device, so each process takes only some per second.
"""

import math
from random import Random
from typing import Any, Final

import orjson
from starlette.responses import Response

from api.answers import typed_answer
from api.descriptions.publish import NOTIFY, NoticeBody, NoticeTaken
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from shared.bus.message import notice_message
from shared.bus.names import notice_channel
from shared.bus.publisher import Offer, Publisher
from shared.clock import monotonic, wall
from shared.protocol.frames import notice_frame
from shared.protocol.ids import device_class_problem, time_ordered_uuid
from shared.telemetry.metrics import API_NOTICES
from shared.token_bucket import TokenBucket

__all__ = ["DATA_MAX_BYTES", "Notices"]

DATA_MAX_BYTES: Final = 4096
ID_MAX_LENGTH: Final = 128
BURST_S: Final = 5.0


class Notices:
    """`POST /api/v1/notices`"""

    def __init__(self, publisher: Publisher, *, per_s: float, rand: Random) -> None:
        self._publisher = publisher
        self._bucket = TokenBucket(per_s, max(1.0, per_s * BURST_S), monotonic())
        self._rand = rand

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        # Escapes may make the body several times as long as the data is when encoded plainly.
        operation = Operation(
            self.post,
            frozenset({"operator", "service"}),
            body=NoticeBody,
            body_max_bytes=8 * DATA_MAX_BYTES,
            description=NOTIFY,
        )
        return Resource(guard, "/api/v1/notices", {"POST": operation})

    async def post(self, call: Call) -> Response:
        """Hand it to the bus. 202: nobody waits to see whom it reaches."""
        body: NoticeBody = call.body
        if body.device_class is not None and (problem := device_class_problem(body.device_class)):
            raise Problem("invalid-body", problem, field="class")
        if body.id is not None and not (1 <= len(body.id) <= ID_MAX_LENGTH and body.id.isprintable()):
            detail = f"id must be 1 to {ID_MAX_LENGTH} printable characters"
            raise Problem("invalid-body", detail, field="id")
        data = _encoded(body.data)
        self._spend()
        notice_id = body.id if body.id is not None else str(time_ordered_uuid(wall(), self._rand))
        message = notice_message(body.device_class, notice_frame(notice_id, data))
        if self._publisher.offer_to(notice_channel(), message) is not Offer.OFFERED:
            API_NOTICES.labels("unavailable").inc()
            raise Problem("unavailable", "the bus takes nothing now")
        API_NOTICES.labels("accepted").inc()
        return typed_answer(NoticeTaken(notice_id), 202)

    def _spend(self) -> None:
        wait_s = self._bucket.take(monotonic())
        if wait_s:
            API_NOTICES.labels("over_rate").inc()
            after_s = math.ceil(wait_s)
            detail = f"more notices than this process takes; again in {after_s} s"
            raise Problem("too-many-requests", detail, headers={"Retry-After": str(after_s)})


def _encoded(data: dict[str, Any]) -> bytes:
    try:
        encoded = orjson.dumps(data)
    except (TypeError, ValueError) as error:
        raise Problem("invalid-body", f"data: cannot be encoded: {error}", field="data") from None
    if len(encoded) > DATA_MAX_BYTES:
        detail = f"data: has {len(encoded)} bytes encoded; use at most {DATA_MAX_BYTES}"
        raise Problem("invalid-body", detail, field="data")
    return encoded
