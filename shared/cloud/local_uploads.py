"""An upload in parts to the local disk: a file aside, and beside it a record of which bytes are on disk.

Parts go where they belong in any order, several at a time; each is on disk before it is recorded, so what the record
says is there after a power cut too. Giving the file its name is as with drafts: it links or it fails, and nothing is
replaced. Repeating any step is harmless. All calls block and raise OSError.
"""

import errno
import os
import secrets
import stat
from collections.abc import Sequence
from typing import Final

from shared.cloud.beneath import FILE, Root
from shared.cloud.hashes import StreamHash
from shared.cloud.paths import Parts

__all__ = ["Incomplete", "PartFile", "remove_stale"]

_DATA: Final = ".upload"
_RECORD: Final = ".upload-parts"
_RECORD_MAX: Final = 4 * 1024 * 1024
_PIECE: Final = 1024 * 1024
_PIECES_A_CALL: Final = 8

Range = tuple[int, int]


class Incomplete(Exception):
    """Bytes of the file never came."""


class PartFile:
    """One such file by its name in the folder for drafts. Holds nothing open."""

    def __init__(self, folder: int, name: str, size: int) -> None:
        if len(name) != 32 or not name.isascii() or not name.isalnum():
            raise OSError(errno.ENOENT, "no upload has this name")
        self._folder = folder
        self._data = name + _DATA
        self._record = name + _RECORD
        self.name = name
        self.size = size

    @classmethod
    def make(cls, folder: int, size: int) -> "PartFile":
        """A new one, of the full size and without a byte on disk yet."""
        made = cls(folder, secrets.token_hex(16), size)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for name, mode in ((made._data, 0o666), (made._record, 0o600)):
            os.close(os.open(name, flags, mode, dir_fd=folder))
        os.truncate(fd := made._open(os.O_RDWR), size)
        os.close(fd)
        os.fsync(folder)
        return made

    def write(self, start: int, content: memoryview) -> None:
        """Put these bytes there, and record them once they are on disk."""
        end = start + len(content)
        if not 0 <= start <= end <= self.size:
            raise OSError(errno.EINVAL, f"bytes {start}-{end} lie outside the {self.size} announced")
        fd = self._open(os.O_RDWR)
        try:
            while content:
                content = content[os.pwrite(fd, content, end - len(content)) :]
            os.fdatasync(fd)
        finally:
            os.close(fd)
        record = os.open(self._record, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        try:
            os.write(record, f"{start} {end}\n".encode())
        finally:
            os.close(record)

    def ranges(self) -> list[Range]:
        """What is recorded, sorted, each once. FileNotFoundError when the upload is gone."""
        fd = self._open(os.O_RDONLY)
        try:
            if os.fstat(fd).st_size != self.size:
                raise OSError(errno.ENOENT, "the upload is of another size")
        finally:
            os.close(fd)
        record = os.open(self._record, FILE, dir_fd=self._folder)
        try:
            lines = os.read(record, _RECORD_MAX).split(b"\n")[:-1]
        finally:
            os.close(record)
        found = set()
        for line in lines:
            first, _, second = line.partition(b" ")
            # A line cut by a crash says nothing; the part is sent again.
            if first.isdigit() and second.isdigit() and int(first) <= int(second) <= self.size:
                found.add((int(first), int(second)))
        return sorted(found)

    def check_complete(self) -> None:
        """Raises Incomplete."""
        if (gap := first_gap(self.ranges(), self.size)) is not None:
            raise Incomplete(f"the bytes from {gap} on never came")

    def hash_on(self, content: StreamHash) -> int:
        """Feed the next few pieces into the hash; returns how many bytes there were, 0 at the end."""
        before = content.size
        fd = self._open(os.O_RDONLY)
        try:
            for _ in range(_PIECES_A_CALL):
                if not (piece := os.pread(fd, _PIECE, content.size)):
                    break
                content.update(piece)
        finally:
            os.close(fd)
        return content.size - before

    def link_new(self, root: Root, parts: Parts) -> bool:
        """Give the file its name; False when something else has it. Either way it is durable on return."""
        folder = root.make_folders(parts[:-1])
        try:
            fd = self._open(os.O_RDWR)
            try:
                os.fsync(fd)
                mine = os.fstat(fd)
            finally:
                os.close(fd)
            try:
                os.link(self._data, parts[-1], src_dir_fd=self._folder, dst_dir_fd=folder, follow_symlinks=False)
                made = True
            except FileExistsError:
                # This very file, when an earlier call was cut off behind the line above.
                there = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
                made = (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev)
            os.fsync(folder)
        finally:
            os.close(folder)
        return made

    def discard(self) -> None:
        """Remove what lies aside; a file that got its name stays. Safe to repeat."""
        for name in (self._data, self._record):
            try:
                os.unlink(name, dir_fd=self._folder)
            except FileNotFoundError:
                pass

    def _open(self, how: int) -> int:
        fd = os.open(self._data, how | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ENOENT, "no upload has this name")
        return fd


def first_gap(ranges: Sequence[Range], size: int) -> int | None:
    """Where the first byte is missing of [0, size) in sorted ranges."""
    reached = 0
    for start, end in ranges:
        if start > reached:
            break
        reached = max(reached, end)
    return None if reached >= size else reached


def remove_stale(folder: int, *, now: float, older_than_s: float, limit: int = 10_000) -> int:
    """Remove uploads to which nothing was added for that long before `now` (wall clock); returns how many files."""
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if removed >= limit:
                break
            if not entry.name.endswith((_DATA, _RECORD)):
                continue
            try:
                if entry.stat(follow_symlinks=False).st_mtime <= now - older_than_s:
                    os.unlink(entry.name, dir_fd=folder)
                    removed += 1
            except FileNotFoundError:
                continue
    return removed
