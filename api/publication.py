"""A request to publish, turned into events ready for the log: each item is taken or refused by itself.

Pure: ids and the time are given. An item that cannot be taken never keeps the others out; its result names the field.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from api.bodies import convert_body, decode_body
from api.problems import Problem
from shared import traceparent
from shared.protocol.event import InvalidEvent, body_hash, encode_event
from shared.protocol.field_errors import convert, field_of
from shared.protocol.ids import device_id_problem
from shared.store.log import DEDUPE_KEY_MAX_LENGTH, NewEvent

__all__ = ["ITEMS_MAX", "Invalid", "read_publication"]

ITEMS_MAX: Final = 500
SOURCE_DEFAULT: Final = "/fleetwire/api"
ID_MAX_LENGTH: Final = 128

_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,127}", re.ASCII)
_SOURCE: Final = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


class _Publication(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: list[Any]


class _Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device_id: str
    type: str
    data: dict[str, Any]
    id: str | None = None
    key: str | None = None
    source: str = SOURCE_DEFAULT
    time: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why an item was not taken."""

    field: str
    detail: str


def read_publication(raw: bytes, *, now: str, new_id: Callable[[], str]) -> Sequence[NewEvent | Invalid]:
    """The items of a body in its order. `now` is RFC 3339. Raises Problem (400) when the body as a whole is wrong."""
    items = convert_body(decode_body(raw), _Publication).events
    if not 1 <= len(items) <= ITEMS_MAX:
        detail = f"events: there are {len(items)}; send 1 to {ITEMS_MAX}"
        raise Problem("invalid-body", detail, field="events")
    return [_read_item(item, now=now, new_id=new_id) for item in items]


def _read_item(value: Any, *, now: str, new_id: Callable[[], str]) -> NewEvent | Invalid:
    try:
        item: _Item = convert(value, _Item)
    except msgspec.ValidationError as error:
        return Invalid(*field_of(error))
    if invalid := _flaw_of(item):
        return invalid
    event_id = item.id if item.id is not None else new_id()
    try:
        body = encode_event(
            event_id=event_id,
            event_type=item.type,
            source=item.source,
            time=item.time or now,
            data=item.data,
            traceparent=item.traceparent,
        )
        digest = body_hash(item.type, item.data)
    except InvalidEvent as error:
        return Invalid("data", str(error))
    return NewEvent(item.device_id, event_id, item.type, body, digest, item.key)


def _flaw_of(item: _Item) -> Invalid | None:
    if problem := device_id_problem(item.device_id):
        return Invalid("device_id", problem)
    if _TYPE.fullmatch(item.type) is None:
        return Invalid("type", "type must begin with a letter and hold at most 128 of A-Z a-z 0-9 . _ -")
    if item.id is not None and not _is_plain(item.id, ID_MAX_LENGTH):
        return Invalid("id", f"id must be 1 to {ID_MAX_LENGTH} printable characters")
    if item.key is not None and not _is_plain(item.key, DEDUPE_KEY_MAX_LENGTH):
        return Invalid("key", f"key must be 1 to {DEDUPE_KEY_MAX_LENGTH} printable characters")
    if _SOURCE.fullmatch(item.source) is None:
        return Invalid("source", "source must be a URI reference of 1 to 256 characters")
    if item.time is not None and not _is_moment(item.time):
        return Invalid("time", "time must be RFC 3339 with an offset, for example 2026-11-21T08:30:00Z")
    if item.traceparent is not None and traceparent.parse(item.traceparent) is None:
        detail = "traceparent must be that of W3C Trace Context, version 00, with ids that are not all zeros"
        return Invalid("traceparent", detail)
    return None


def _is_plain(text: str, max_length: int) -> bool:
    # Also keeps out what Postgres cannot store as text (NUL) and what UTF-8 cannot hold (lone surrogates).
    return 1 <= len(text) <= max_length and text.isprintable()


def _is_moment(text: str) -> bool:
    if _TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.upper()))
    except ValueError:
        return False
    return True
