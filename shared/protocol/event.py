"""An event as it is stored, published and sent: one CloudEvents 1.0 JSON object, encoded once.

The bytes made here are the event from then on. They are stored as text, published and put into frames without being
parsed again, so two readers can never see two renderings of one event.
Source: CloudEvents 1.0, JSON event format; distributed tracing extension (`traceparent`).
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson

__all__ = [
    "EVENT_MAX_BYTES",
    "REQUEST_FAILED",
    "RESPONSE_READY",
    "EventTooLarge",
    "InvalidEvent",
    "body_hash",
    "encode_event",
]

EVENT_MAX_BYTES: Final = 256 * 1024
RESPONSE_READY: Final = "ResponseReady"
REQUEST_FAILED: Final = "RequestFailed"


class InvalidEvent(ValueError):
    """The event cannot be encoded; `str()` names the field."""


class EventTooLarge(InvalidEvent):
    """The encoded event is over 256 KiB."""


def encode_event(
    *,
    event_id: str,
    event_type: str,
    source: str,
    time: str,
    data: Mapping[str, Any],
    traceparent: str | None = None,
) -> bytes:
    """The CloudEvent as UTF-8 JSON, at most 256 KiB. `time` is RFC 3339. Raises InvalidEvent, EventTooLarge."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "type": event_type,
        "id": event_id,
        "source": source,
        "time": time,
        "datacontenttype": "application/json",
        "data": data,
    }
    if traceparent is not None:
        event["traceparent"] = traceparent
    try:
        body = orjson.dumps(event)
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"event cannot be encoded as JSON: {error}") from None
    if len(body) > EVENT_MAX_BYTES:
        raise EventTooLarge(f"encoded event has {len(body)} bytes; use at most {EVENT_MAX_BYTES}")
    return body


def body_hash(event_type: str, data: Mapping[str, Any]) -> bytes:
    """What decides whether two appends under one dedupe key are the same event (32 bytes, SHA-256).

    Covers type and data with sorted keys, and not `id` or `time`: a sender that repeats itself may stamp it anew.
    """
    return sha256(orjson.dumps([event_type, data], option=orjson.OPT_SORT_KEYS)).digest()
