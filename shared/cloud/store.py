"""The port to a cloud store: what a worker, a watcher and the file gateway need of one, and no more.

Paths are relative POSIX strings (`Responses/truck-7/photo.0190…/thumb.jpg`, see paths.py). `put_new` never replaces
anything: that a file is there already is an answer, and carries enough for the caller to adopt the file as its own.
Bytes are streamed, never held whole. What fails raises the errors of errors.py.
"""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from shared.cloud.hashes import Digest

Source = bytes | Path | AsyncIterable[bytes]
"""What is put: bytes, a file outside the store (no link), or a stream. An error out of the stream leaves no trace."""

Kind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True, slots=True)
class Stat:
    """A regular file, as the store lists it. While all three stand, the content is taken to stand."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder. Names are what others gave: check them before use."""

    name: str
    kind: Kind
    stat: Stat


@dataclass(frozen=True, slots=True)
class Stored:
    """`put_new` made the file, durably."""

    content: Digest

    @property
    def offered(self) -> Digest:
        """What was to be put, as `Existed` says it."""
        return self.content


@dataclass(frozen=True, slots=True)
class Existed:
    """A file of that name was there and was left alone. `content` is what is there, `offered` what was to be put.

    A store that does not know the sha256 of what is there compares by the hash it does know: the same content is told
    as `offered`, another as None.
    """

    content: Digest | None
    offered: Digest

    @property
    def identical(self) -> bool:
        """Whether the file there is, byte for byte, the one that was to be put: it may be adopted."""
        return self.content == self.offered


class Reader(Protocol):
    """An open file."""

    @property
    def stat(self) -> Stat:
        """The file as it was when opened."""
        ...

    def chunks(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start`, in pieces of bounded size. Raises ContentChanged when the file was cut."""
        ...


class Store(Protocol):
    """A cloud store. Every method may wait, each for a bounded time."""

    def open(self, path: str) -> AbstractAsyncContextManager[Reader]:
        """Open a regular file for reading. Raises NotFound, NotAFile."""
        ...

    async def put_new(self, path: str, source: Source, *, expect: Digest | None = None) -> Stored | Existed:
        """Make the file, parents included, complete and durable or not at all.

        With `expect`, a source of another size or hash raises ContentMismatch and nothing is made.
        """
        ...

    async def stat(self, path: str) -> Stat | None:
        """The regular file there, or None. Raises NotAFile for anything else."""
        ...

    async def content(self, path: str) -> tuple[Stat, Digest]:
        """The file there, read in a stream. Raises NotFound, NotAFile, ContentChanged."""
        ...

    async def remove(self, path: str) -> bool:
        """Remove the regular file there, durably; False when nothing was there. Raises NotAFile."""
        ...
