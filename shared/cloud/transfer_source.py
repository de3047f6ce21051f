"""Where the bytes of an upload come from: always of a known size, and readable again from the beginning.

Both make retries, a restart and a resume after a crash possible without holding the content in memory. A stream that
has neither is written aside first (`spooled`).
"""

import os
import stat
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from shared.cloud.beneath import FILE
from shared.cloud.errors import ContentChanged, ContentMismatch, NotAFile
from shared.cloud.provider import Provider
from shared.cloud.threads import FileThreads

__all__ = ["BytesContent", "Content", "ContentReader", "FileContent", "StoredContent", "spooled"]

_PIECE: Final = 1024 * 1024


class ContentReader(Protocol):
    """Content that is being read, from its beginning on."""

    async def read(self, length: int) -> bytes:
        """The next `length` bytes. Raises ContentChanged when there are fewer."""
        ...


class Content(Protocol):
    """Something to upload."""

    @property
    def size(self) -> int: ...

    def open(self) -> AbstractAsyncContextManager[ContentReader]:
        """From the beginning; as often as need be."""
        ...


class BytesContent:
    """Bytes that are in memory anyway."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ContentReader]:
        """See Content."""
        yield _BytesReader(self._content)


class _BytesReader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    async def read(self, length: int) -> bytes:
        piece = self._content[self._position : self._position + length]
        if len(piece) < length:
            raise ContentChanged("fewer bytes than there were")
        self._position += length
        return piece


class FileContent:
    """A regular file, no link. Its size is that of the moment in which it was opened first."""

    def __init__(self, file: Path | int, size: int, threads: FileThreads) -> None:
        self._file = file
        self._threads = threads
        self.size = size

    @classmethod
    async def of(cls, path: Path, threads: FileThreads) -> "FileContent":
        """Raises NotFound, NotAFile."""

        def size() -> int:
            found = os.lstat(path)
            if not stat.S_ISREG(found.st_mode):
                raise NotAFile(f"{path}: not a regular file")
            return found.st_size

        return cls(path, await threads.run(str(path), size), threads)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ContentReader]:
        """See Content."""
        name = str(self._file)
        fd = await self._threads.run(name, self._opened, release=os.close)
        try:
            yield _FileReader(fd, name, self._threads)
        finally:
            await self._threads.run_always(name, os.close, fd)

    def _opened(self) -> int:
        return os.dup(self._file) if isinstance(self._file, int) else os.open(self._file, FILE)


class _FileReader:
    def __init__(self, fd: int, name: str, threads: FileThreads) -> None:
        self._fd = fd
        self._name = name
        self._threads = threads
        self._position = 0

    async def read(self, length: int) -> bytes:
        # One object of the whole length, read in one go: a part is in memory once.
        piece = await self._threads.run(self._name, os.pread, self._fd, length, self._position)
        while len(piece) < length:
            more = await self._threads.run(
                self._name, os.pread, self._fd, length - len(piece), self._position + len(piece)
            )
            if not more:
                raise ContentChanged(f"{self._name}: ends early; it was cut while it was read")
            piece += more
        self._position += length
        return piece


class StoredContent:
    """An object at a provider, read as it comes."""

    def __init__(self, provider: Provider, path: str, size: int, *, object_id: str | None = None) -> None:
        self._provider = provider
        self._path = path
        self._object_id = object_id
        self.size = size

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ContentReader]:
        """See Content."""
        async with self._provider.open(self._path, object_id=self._object_id) as reader:
            if reader.stat.size != self.size:
                raise ContentChanged(f"{self._path!r}: has {reader.stat.size} bytes and had {self.size}")
            yield _StreamReader(reader.chunks(), self._path)


class _StreamReader:
    def __init__(self, pieces: AsyncIterator[bytes], name: str) -> None:
        self._pieces = pieces
        self._name = name
        self._left = b""

    async def read(self, length: int) -> bytes:
        gathered = bytearray(length)
        at = 0
        while at < length:
            if not self._left:
                self._left = await anext(self._pieces, b"")
                if not self._left:
                    raise ContentChanged(f"{self._name!r}: ends early; it was cut while it was read")
            taken = self._left[: length - at]
            gathered[at : at + len(taken)] = taken
            at += len(taken)
            self._left = self._left[len(taken) :]
        return bytes(gathered)


@asynccontextmanager
async def spooled(
    stream: AsyncIterable[bytes], threads: FileThreads, *, folder: Path | None, most: int | None = None
) -> AsyncIterator[FileContent]:
    """A stream written aside, into a file without a name that is gone with this block, or with the process.

    Raises ContentMismatch as soon as more than `most` bytes came, and what the stream raises.
    """

    def made() -> int:
        with tempfile.TemporaryFile(dir=folder, prefix="fleetwire-") as file:
            return os.dup(file.fileno())

    name = "a file for what is being put"
    fd = await threads.run(name, made, release=os.close)
    try:
        size = 0
        gathered = bytearray()
        async for piece in stream:
            size += len(piece)
            if most is not None and size > most:
                raise ContentMismatch(f"more bytes came than the {most} announced")
            gathered += piece
            if len(gathered) >= _PIECE:
                await threads.run(name, _write, fd, bytes(gathered))
                gathered.clear()
        await threads.run(name, _write, fd, bytes(gathered))
        yield FileContent(fd, size, threads)
    finally:
        await threads.run_always(name, os.close, fd)


def _write(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
