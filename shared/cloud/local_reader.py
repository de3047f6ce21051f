"""Open files and folders of the local store. What is marked blocking runs in the store's threads.

A read may still run in its thread when its caller has given up and closes; a lock makes the two meet safely, so that no
descriptor is used after its number went to somebody else.
"""

import os
import stat
import threading
from collections.abc import AsyncIterator
from typing import Final

from shared.cloud.errors import ContentChanged
from shared.cloud.hashes import StreamHash
from shared.cloud.store import Entry, Kind, Stat
from shared.cloud.threads import FileThreads

CHUNK: Final = 1024 * 1024
_PIECES_A_CALL: Final = 8
# What a reader of `chunks` holds at a time: many may read at once.
_PIECE_OUT: Final = 256 * 1024
_ENTRIES_A_PAGE: Final = 512


class LocalReader:
    """An open regular file, read by position."""

    def __init__(self, fd: int, path: str, threads: FileThreads) -> None:
        self._fd = fd
        self._path = path
        self._threads = threads
        self._lock = threading.Lock()
        self.stat = stat_of(os.fstat(fd))

    def chunks(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See store.Reader."""
        return self._chunks(start, self.stat.size - start if length is None else length)

    async def _chunks(self, position: int, left: int) -> AsyncIterator[bytes]:
        while left > 0:
            piece = await self._threads.run(self._path, self.read_at, position, min(_PIECE_OUT, left))
            if not piece:
                raise ContentChanged(f"{self._path!r}: ends {left} bytes early; it was cut while it was read")
            yield piece
            position += len(piece)
            left -= len(piece)

    def read_at(self, position: int, length: int) -> bytes:
        """Blocking: at most `length` bytes, none at the end."""
        with self._lock:
            self._check_open()
            return os.pread(self._fd, length, position)

    def hash_on(self, content: StreamHash) -> int:
        """Blocking: feed the next few pieces into the hash; returns how many bytes there were, 0 at the end."""
        before = content.size
        for _ in range(_PIECES_A_CALL):
            if not (piece := self.read_at(content.size, CHUNK)):
                break
            content.update(piece)
        return content.size - before

    def stat_now(self) -> Stat:
        """Blocking: the file as it is at this moment."""
        with self._lock:
            self._check_open()
            return stat_of(os.fstat(self._fd))

    def close(self) -> None:
        """Blocking, for as long as one read. Safe to repeat."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _check_open(self) -> None:
        if self._fd < 0:
            raise OSError("the file was closed")


class Pages:
    """The entries of an open folder, a page at a time. All blocking."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._found = os.scandir(fd)

    def next(self) -> list[Entry]:
        """The next page; empty at the end."""
        page: list[Entry] = []
        with self._lock:
            for entry in self._found:
                try:
                    state = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                page.append(Entry(entry.name, _kind_of(state.st_mode), stat_of(state)))
                if len(page) >= _ENTRIES_A_PAGE:
                    break
        return page

    def close(self) -> None:
        """Safe to repeat."""
        with self._lock:
            self._found.close()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def stat_of(found: os.stat_result) -> Stat:
    """What the port says of a file."""
    return Stat(found.st_size, found.st_mtime_ns, found.st_ino)


def _kind_of(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"
