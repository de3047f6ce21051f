"""JSON answers, encoded by orjson; recorded events are spliced in as the bytes they were recorded with."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, overload

import msgspec
import orjson
from msgspec import Struct
from starlette.responses import Response

from shared.protocol.position import Position
from shared.store.log import StoredEvent

__all__ = ["events_page", "json_answer", "moment", "typed_answer"]


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with this value as its body."""
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def typed_answer(body: Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of the type that the published document names."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


@overload
def moment(at: datetime) -> str: ...
@overload
def moment(at: datetime | None) -> str | None: ...
def moment(at: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds, or None."""
    return None if at is None else at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def events_page(position: Position, head: int, events: list[StoredEvent]) -> Response:
    """A page of the log that ends at `position`. No event is parsed."""
    body = b'{"position":"%d:%d","head":%d,"more":%b,"events":[%b]}' % (
        position.epoch,
        position.seq,
        head,
        b"true" if position.seq < head else b"false",
        b",".join([b'{"seq":%d,"event":%b}' % event for event in events]),
    )
    return Response(body, media_type="application/json")
