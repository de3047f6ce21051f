"""Opaque cursors of keyset pages: where a page ended, as 32 characters of base64url.

A cursor only names a place in the caller's own list, so it is checked for its form and needs no signature: an
invented one skips rows of the inventor. Times are whole microseconds, as Postgres keeps them, so no row is skipped or
repeated by rounding.
"""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

__all__ = ["InvalidCursor", "PageCursor", "decode_cursor", "encode_cursor"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MICROSECONDS_MAX: Final = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LENGTH: Final = 32


class InvalidCursor(ValueError):
    """The text is not a cursor that was given out: use `next` of the page before, unchanged."""

    def __init__(self) -> None:
        super().__init__("cursor must be the `next` of the page before, unchanged")


class PageCursor(NamedTuple):
    """The key of the last row of a page."""

    at: datetime
    id: UUID


def encode_cursor(cursor: PageCursor) -> str:
    """Eight bytes of microseconds since 1970 and sixteen of the id."""
    microseconds = (cursor.at - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(microseconds.to_bytes(8, "big") + cursor.id.bytes).decode("ascii")


def decode_cursor(text: str) -> PageCursor:
    """Raises InvalidCursor."""
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise InvalidCursor from None
    if len(text) != _LENGTH or len(raw) != 24:
        raise InvalidCursor
    microseconds = int.from_bytes(raw[:8], "big")
    if microseconds > _MICROSECONDS_MAX:
        raise InvalidCursor
    return PageCursor(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=raw[8:]))
