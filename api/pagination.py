"""Opaque cursors of keyset pages: where a page ended [pure].

Two forms. The short one (32 characters) names a place in the caller's own list, so it is checked for its form and needs
no signature: an invented one skips rows of the inventor. The signed one is for lists with filters: it also says which
list, sort and filter it was given out for, so a page cannot be continued by another question, and no key that was
not ours is ever compared with. Times are whole microseconds, as Postgres keeps them, so no row is skipped or
repeated by rounding.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

__all__ = ["InvalidCursor", "PageCursor", "SignedCursors", "decode_cursor", "encode_cursor"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MICROSECONDS_MAX: Final = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LENGTH: Final = 32

_VERSION: Final = b"\x01"
_LABEL: Final = b"fleetwire page cursor"
_MAC_BYTES: Final = 16
_FILTER_BYTES: Final = 8
_TEXT_MAX_LENGTH: Final = 2048

Field: TypeAlias = datetime | UUID | str | int
A = TypeVar("A", datetime, str)
B = TypeVar("B", UUID, int)


class InvalidCursor(ValueError):
    """The text is not a cursor that was given out: use `next` of the page before, unchanged."""

    def __init__(self, detail: str = "cursor must be the `next` of the page before, unchanged") -> None:
        super().__init__(detail)


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


class SignedCursors:
    """Gives out and reads signed cursors. Every key of the set verifies, the last one signs.

    A cursor holds a version, the sort, a hash of the filters and the key of the row where the page ended, and an
    HMAC-SHA256 over them, cut to 16 bytes.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` are the secrets that sign file addresses, too; ours are derived from those that it then holds."""
        if not keys:
            raise ValueError("there is no key to sign cursors with")
        self._secrets = keys

    def __repr__(self) -> str:
        return f"SignedCursors({len(self._secrets)} keys)"

    @property
    def _keys(self) -> list[bytes]:
        return [hmac.digest(secret, _LABEL, "sha256") for secret in self._secrets.values()]

    def sign(self, sort: str, filters: Mapping[str, str], key: Sequence[Field]) -> str:
        """The cursor of the row with this key. `sort` names list and order, `filters` are all other parameters."""
        payload = _about(sort, filters) + b"".join(map(_encoded, key))
        return base64.urlsafe_b64encode(_mac(self._keys[-1], payload) + payload).rstrip(b"=").decode("ascii")

    def read(self, text: str, sort: str, filters: Mapping[str, str], shape: tuple[type[A], type[B]]) -> tuple[A, B]:
        """The key that `sign` was given for the same sort and filters. Raises InvalidCursor."""
        first, second = shape
        raw = _raw(text)
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not any(hmac.compare_digest(mac, _mac(key, payload)) for key in self._keys):
            raise InvalidCursor
        about = _about(sort, filters)
        if not payload.startswith(about):
            raise InvalidCursor("cursor is of another list, filter or sort: keep them as they were, or leave it out")
        key = _decoded(payload[len(about) :])
        if len(key) != 2 or type(key[0]) is not first or type(key[1]) is not second:
            raise InvalidCursor
        return key[0], key[1]


def _about(sort: str, filters: Mapping[str, str]) -> bytes:
    """Version, sort and filter hash. Whatever is put together has its length before it."""
    named = b"".join(_sized(name.encode()) + _sized(value.encode()) for name, value in sorted(filters.items()))
    return _VERSION + _sized(sort.encode()) + blake2b(named, digest_size=_FILTER_BYTES).digest()


def _sized(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")[:_MAC_BYTES]


def _raw(text: str) -> bytes:
    try:
        if len(text) > _TEXT_MAX_LENGTH:
            raise InvalidCursor
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidCursor from None


def _encoded(field: Field) -> bytes:
    match field:
        case datetime():
            return b"t" + ((field - _EPOCH) // _MICROSECOND).to_bytes(8, "big", signed=True)
        case UUID():
            return b"u" + field.bytes
        case int():
            return b"i" + field.to_bytes(8, "big", signed=True)
        case str():
            return b"s" + _sized(field.encode())


def _decoded(payload: bytes) -> list[Field]:
    """What `_encoded` made, of a payload whose signature holds."""
    fields: list[Field] = []
    while payload:
        kind, size, begin = payload[:1], 8, 1
        if kind == b"u":
            size = 16
        elif kind == b"s":
            size, begin = int.from_bytes(payload[1:3], "big"), 3
        value, payload = payload[begin : begin + size], payload[begin + size :]
        match kind:
            case b"t":
                fields.append(_EPOCH + timedelta(microseconds=int.from_bytes(value, "big", signed=True)))
            case b"u":
                fields.append(UUID(bytes=value))
            case b"i":
                fields.append(int.from_bytes(value, "big", signed=True))
            case b"s":
                fields.append(value.decode())
            case _:
                raise InvalidCursor  # of a later version that kept the number
    return fields
