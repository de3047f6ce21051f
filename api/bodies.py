"""Request bodies: read within a limit and a deadline, decoded strictly, errors that name the field.

The limit holds while bytes arrive, whatever Content-Length says. All bodies being read together stay within a budget,
so many large ones wait outside instead of in memory. A sender that goes over the limit is still read for a moment
before it is cut off: closing at once would reset the connection and, with it, the answer that says why.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec
from starlette.types import Receive

from api.inflation import Inflater
from api.inputs import Headers
from api.problems import Problem
from shared.protocol import strict_json
from shared.protocol.field_errors import convert, field_of

__all__ = ["BodyBudget", "ClientGone", "convert_body", "decode_body", "expected_length", "read_body"]

T = TypeVar("T")

BODY_MAX_DEPTH: Final = 32
LINGER_MAX_BYTES: Final = 16 * 1024 * 1024
LINGER_S: Final = 2.0


class ClientGone(Exception):
    """The client closed the connection before it was answered."""


class BodyBudget:
    """How many bytes of bodies may be in memory at once in this process."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Raises Problem (503) when the budget is spent: the sender waits, not we."""
        if count > self._free:
            raise Problem("unavailable", "too many large requests are being read", close=True)
        self._free -= count
        try:
            yield
        finally:
            self._free += count


def expected_length(headers: Headers, *, limit: int) -> int:
    """How many bytes the body may take: what it says itself, else the limit."""
    values = headers.get(b"content-length")
    # The HTTP layer refuses a Content-Length that is not one plain number.
    return min(int(values[0]), limit) if values else limit


async def read_body(
    receive: Receive, headers: Headers, *, limit: int, deadline_s: float, is_gzip: bool = False
) -> bytes:
    """All bytes of the body, inflated if need be, at most `limit`. Raises Problem (413, 408, 400) and ClientGone."""
    declared = headers.get(b"content-length")
    if declared and int(declared[0]) > limit:
        # A sender that asked first (100-continue) has sent nothing yet.
        raise await _too_large(receive, limit) if b"expect" not in headers else _over(limit)
    try:
        async with asyncio.timeout(deadline_s):
            if not is_gzip:
                return await _read_all(receive, limit)
            return await _read_inflated(receive, limit)
    except TimeoutError:
        raise Problem("request-timeout", f"the body did not arrive within {deadline_s:g} s", close=True) from None


async def _read_all(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise await _too_large(receive, limit)
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


async def _read_inflated(receive: Receive, limit: int) -> bytes:
    inflater = Inflater(limit)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        more = message.get("more_body", False)
        try:
            inflater.feed(message.get("body", b""))
        except Problem:
            if more:
                await _skip(receive)
            raise
    return inflater.whole()


async def _too_large(receive: Receive, limit: int) -> Problem:
    await _skip(receive)
    return _over(limit)


async def _skip(receive: Receive) -> None:
    skipped = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while skipped < LINGER_MAX_BYTES:
                message = await receive()
                skipped += len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        pass


def _over(limit: int) -> Problem:
    return Problem("too-large", f"the body has more than {limit} bytes", limit=limit, close=True)


def decode_body(raw: bytes) -> Any:
    """The JSON value of a body. Raises Problem (400)."""
    try:
        return strict_json.decode(raw, max_depth=BODY_MAX_DEPTH)
    except strict_json.NotStrictJson as error:
        raise Problem("invalid-body", f"the body {error}") from None


def convert_body(value: Any, kind: type[T]) -> T:
    """The decoded body as what it should be. Raises Problem (400) naming the member."""
    try:
        converted: T = convert(value, kind)
    except msgspec.ValidationError as error:
        field, detail = field_of(error)
        raise Problem("invalid-body", detail, field=field) from None
    return converted
