"""A file in the making: written aside, then given its name in one step that cannot overwrite.

The temporary file lies in a folder of its own, outside the watched tree and on the same file system. It is complete
and on disk before link(2) gives it its name, which either makes the name or says that it exists: there is no moment
at which a half file can be seen, and no check that a rival could slip behind. The writer holds a lock on it, so that
cleaning up after a crash never takes a living one. All calls here block and raise OSError; a lock lets a late call
and `discard` meet safely.
"""

import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Callable
from typing import Final

from shared.cloud.beneath import FILE, Root
from shared.cloud.hashes import Digest, StreamHash
from shared.cloud.paths import Parts

SUFFIX: Final = ".part"
_PIECE: Final = 1024 * 1024
_PIECES_A_CALL: Final = 8


class Draft:
    """One temporary file. `discard` is due in every case; it leaves a linked file alone."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._name = secrets.token_hex(16) + SUFFIX
        self._hash = StreamHash()
        self._lock = threading.Lock()
        self._open = True
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # The process's umask decides who may read what lands in the cloud folder.
        self._fd = os.open(self._name, flags, 0o666, dir_fd=folder)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, content: bytes) -> int:
        """Append; returns the size so far."""
        with self._lock:
            self._check_open()
            self._append(content)
            return self._hash.size

    def copy_some(self, read_at: Callable[[int, int], bytes]) -> int:
        """Append the next few pieces of what `read_at` reads; returns how many bytes there were, 0 at its end."""
        with self._lock:
            self._check_open()
            before = self._hash.size
            for _ in range(_PIECES_A_CALL):
                if not (piece := read_at(self._hash.size, _PIECE)):
                    break
                self._append(piece)
            return self._hash.size - before

    def seal(self) -> Digest:
        """Put what was written on disk; returns what it is."""
        with self._lock:
            self._check_open()
            os.fsync(self._fd)
            return self._hash.digest()

    def link_new(self, root: Root, parts: Parts) -> bool:
        """Give the file its name beneath the root; False when the name exists. Either way it is durable on return."""
        with self._lock:
            self._check_open()
            folder = root.make_folders(parts[:-1])
            try:
                try:
                    os.link(self._name, parts[-1], src_dir_fd=self._folder, dst_dir_fd=folder, follow_symlinks=False)
                    made = True
                except FileExistsError:
                    # Perhaps made by a rival that died, or has not come, to the line below.
                    made = False
                os.fsync(folder)
            finally:
                os.close(folder)
            return made

    def discard(self) -> None:
        """Remove the temporary name and close. Safe to repeat."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            try:
                os.unlink(self._name, dir_fd=self._folder)
            except FileNotFoundError:
                pass
            finally:
                os.close(self._fd)

    def _append(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(self._fd, view) :]
        self._hash.update(content)

    def _check_open(self) -> None:
        if not self._open:
            raise OSError(errno.EBADF, "the draft was discarded")


def remove_leftovers(folder: int, *, now: float, older_than_s: float, limit: int = 10_000) -> int:
    """Remove the drafts of processes that died: unlocked, last written `older_than_s` before `now` (wall clock)."""
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if removed >= limit:
                break
            if entry.name.endswith(SUFFIX) and _is_leftover(folder, entry.name, now - older_than_s):
                os.unlink(entry.name, dir_fd=folder)
                removed += 1
    return removed


def _is_leftover(folder: int, name: str, written_before: float) -> bool:
    try:
        fd = os.open(name, FILE, dir_fd=folder)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(fd).st_mtime <= written_before
    except OSError:
        return False
    finally:
        os.close(fd)
