"""A file at a provider, read in ranges: when an answer breaks off, what is left of it is asked for again.

All ranges are of the one version that was opened; `fetch` raises ContentChanged when there is another by now. Only a
lack of progress is counted, so a large file over a bad link arrives, and one that never gives a byte ends soon.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from random import Random
from typing import Any, Final

from shared.backoff import full_jitter
from shared.cloud.errors import ContentChanged, RateLimited, StoreUnavailable
from shared.cloud.hashes import Digest, StreamHash
from shared.cloud.provider import Object, stat_of_object
from shared.cloud.store import Reader, Stat

__all__ = ["Fetch", "RemoteReader", "digest_of_reader"]

Fetch = Callable[[int, int], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""The bytes [start, end) of the opened version, or as many of them as come."""

_BREAKS_MAX: Final = 4
_RESUMES_MAX: Final = 10_000


class RemoteReader:
    """One object, as it was when it was opened."""

    def __init__(
        self,
        found: Object,
        fetch: Fetch,
        *,
        rand: Random | None = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._found = found
        self._fetch = fetch
        self._rand = rand or Random()  # noqa: S311 - jitter
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"RemoteReader({self._found.path!r}, {self._found.size} bytes)"

    @property
    def stat(self) -> Stat:
        """See store.Reader."""
        return stat_of_object(self._found)

    async def chunks(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See store.Reader."""
        position = start
        end = self._found.size if length is None else start + length
        if end > self._found.size:
            raise ContentChanged(f"{self._found.path!r}: has {self._found.size} bytes, asked for were {end}")
        breaks = 0
        for _ in range(_RESUMES_MAX):
            if position >= end:
                return
            before = position
            try:
                async with self._fetch(position, end) as pieces:
                    async for piece in pieces:
                        # A server that heeds no range must not put other bytes in the place of those asked for.
                        if position + len(piece) > end:
                            raise ContentChanged(f"{self._found.path!r}: more bytes came than were asked for")
                        position += len(piece)
                        yield piece
                problem = StoreUnavailable(f"{self._found.path!r}: the provider ended {end - position} bytes early")
            except RateLimited:
                raise
            except StoreUnavailable as error:
                problem = error
            if position < end:
                breaks = 0 if position > before else breaks + 1
                if breaks >= _BREAKS_MAX:
                    raise problem
                await self._sleep(full_jitter(breaks, self._rand, base=0.1, cap=5.0))
        if position < end:
            raise StoreUnavailable(f"{self._found.path!r}: broken off {_RESUMES_MAX} times")


async def digest_of_reader(reader: Reader) -> Digest:
    """The size and sha256 of all of it, read in a stream."""
    content = StreamHash()
    async with aclosing(reader.chunks()) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            content.update(piece)
    return content.digest()
