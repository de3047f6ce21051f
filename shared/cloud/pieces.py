"""What is to be put, in pieces of one size, whatever it comes as: two pieces are held at most."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Final

from shared.cloud.beneath import FILE
from shared.cloud.errors import NotAFile, NotFound
from shared.cloud.store import Source

__all__ = ["Pieces"]

_READ: Final = 1024 * 1024


class Pieces:
    """Pieces of `size` bytes, only the last one smaller; `ended` is known with it. To be entered, so that it closes."""

    def __init__(self, source: Source, size: int) -> None:
        self._size = size
        self._gathered = bytearray()
        self._stream = _stream_of(source, size)
        self.ended = False

    async def next(self) -> bytes:
        """The next piece; empty only for a source without bytes. What the source raises."""
        while len(self._gathered) <= self._size:
            try:
                self._gathered += await anext(self._stream)
            except StopAsyncIteration:
                break
        with memoryview(self._gathered) as gathered:
            piece = bytes(gathered[: self._size])
        del self._gathered[: self._size]
        self.ended = not self._gathered
        return piece

    async def __aenter__(self) -> "Pieces":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._stream.aclose()


async def _stream_of(source: Source, size: int) -> AsyncGenerator[bytes, None]:
    if isinstance(source, bytes):
        for start in range(0, len(source), size):
            yield source[start : start + size]
    elif isinstance(source, Path):
        fd = await asyncio.to_thread(_opened, source)
        try:
            while piece := await asyncio.to_thread(os.read, fd, _READ):
                yield piece
        finally:
            os.close(fd)
    else:
        async for piece in source:
            yield piece


def _opened(path: Path) -> int:
    """A regular file, no link."""
    try:
        fd = os.open(path, FILE)
    except FileNotFoundError:
        raise NotFound(f"{path}: nothing is there") from None
    except OSError as error:
        raise NotAFile(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotAFile(f"{path}: not a regular file")
    return fd
