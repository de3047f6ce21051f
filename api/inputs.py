"""What comes with a request, checked before anything else looks at it: query parameters, path segments, headers.

Unknown query parameters are ignored, so that a newer client can talk to an older server; a known one given twice is
refused, since two readers could each take another of the two.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

from api.problems import Problem
from shared.protocol.ids import device_id_problem
from shared.protocol.position import InvalidPosition, Position, parse_position

__all__ = ["Query", "bearer_token", "check_json_content", "device_id_of", "is_gzipped", "sane_request_id", "uuid_of"]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_MOMENT: Final = re.compile(r"[0-9T:.+Zz-]{10,40}", re.ASCII)
_QUERY_FIELDS_MAX: Final = 64

Headers = Mapping[bytes, list[bytes]]


class Query:
    """The query string of one request; each reader names the field it refuses.

    Only `declared` parameters can be read: those that the published document names.
    """

    def __init__(self, raw: bytes, declared: Collection[str]) -> None:
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX, errors="strict"
            )
        except ValueError:
            raise Problem("invalid-request", f"query must be UTF-8 with at most {_QUERY_FIELDS_MAX} fields") from None
        self._declared = declared
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str | None:
        """The value of a parameter that may be given once, or None."""
        if name not in self._declared:
            raise AssertionError(f"declare the query parameter {name} in the description of the operation")
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise _wrong(name, f"{name} is given {len(values)} times; give it once")
        return values[0]

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        """A decimal number from low to high."""
        text = self.text(name)
        if text is None:
            return default
        if _INTEGER.fullmatch(text) is None or not low <= int(text) <= high:
            raise _wrong(name, f"{name} must be a whole number from {low} to {high}")
        return int(text)

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """One of these words, or None."""
        text = self.text(name)
        if text is not None and text not in allowed:
            raise _wrong(name, f"{name} must be one of {', '.join(allowed)}")
        return text

    def moment(self, name: str) -> datetime | None:
        """An RFC 3339 time with its zone, in the years 1970 to 9998, or None."""
        text = self.text(name)
        if text is None:
            return None
        try:
            at = datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
            at = at.astimezone(UTC) if at is not None and at.tzinfo is not None else None
        except (ValueError, OverflowError):
            at = None
        if at is None or not 1970 <= at.year <= 9998:
            raise _wrong(
                name, f"{name} must be a time with its zone, such as 2026-11-22T08:30:00Z (a + in it written as %2B)"
            )
        return at

    def position(self, name: str) -> Position | None:
        """A position, or None."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return parse_position(text)
        except InvalidPosition as error:
            raise _wrong(name, f"{name}: {error}") from None


def _wrong(field: str, detail: str) -> Problem:
    return Problem("invalid-parameter", detail, field=field)


def device_id_of(text: str) -> str:
    """A path segment that must be a legal device id."""
    if problem := device_id_problem(text):
        raise _wrong("device_id", problem)
    return text


def uuid_of(text: str, field: str) -> UUID:
    """A path segment that must be a UUID as we write it: lower case, with hyphens."""
    if _UUID.fullmatch(text) is None:
        raise _wrong(field, f"{field} must be a UUID in lower case")
    return UUID(text)


def sane_request_id(values: list[bytes]) -> str | None:
    """The request id that the client chose, when it is one that may stand in a log line and a header."""
    if len(values) != 1:
        return None
    text = values[0].decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else None


def bearer_token(values: list[bytes]) -> str:
    """The token of the one Authorization header; empty when there is none."""
    if not values:
        return ""
    if len(values) > 1:
        raise Problem("invalid-request", "Authorization is given more than once", field="Authorization")
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_json_content(headers: Headers) -> bool:
    """Only UTF-8 JSON is taken, as it is or compressed by gzip: then True. Raises Problem (415)."""
    media_type, _, parameters = b",".join(headers.get(b"content-type", [])).decode("latin-1").partition(";")
    charset = next(
        (
            value.strip().strip('"').lower()
            for name, _, value in (part.partition("=") for part in parameters.split(";"))
            if name.strip().lower() == "charset"
        ),
        "utf-8",
    )
    if media_type.strip().lower() != "application/json" or charset != "utf-8":
        raise Problem(
            "unsupported-media-type",
            "send Content-Type: application/json, in UTF-8",
            headers={"Accept": "application/json"},
            close=True,
        )
    return is_gzipped(headers)


def is_gzipped(headers: Headers) -> bool:
    """Whether the body is compressed by gzip; another coding is not taken. Raises Problem (415)."""
    coding = b",".join(headers.get(b"content-encoding", [])).strip().lower()
    if coding not in (b"", b"identity", b"gzip", b"x-gzip"):
        raise Problem(
            "unsupported-media-type",
            "send the body as it is, or with Content-Encoding: gzip",
            headers={"Accept-Encoding": "gzip, identity"},
            close=True,
        )
    return coding.endswith(b"gzip")
