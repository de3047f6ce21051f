"""Linux inotify, as thin as it can be: watches by number, events as the kernel wrote them.

Made here and not taken from a library because the parts that decide correctness must show: that the kernel's queue
overflowed, names as bytes in any encoding, and watching the very folder that is open rather than whatever its path
leads to by then.
"""

import ctypes
import os
import sys
from struct import Struct
from typing import Final, NamedTuple

OPEN: Final = 0x00000020
CLOSE_WRITE: Final = 0x00000008
MOVED_FROM: Final = 0x00000040
MOVED_TO: Final = 0x00000080
CREATE: Final = 0x00000100
DELETE: Final = 0x00000200
DELETE_SELF: Final = 0x00000400
MOVE_SELF: Final = 0x00000800
UNMOUNT: Final = 0x00002000
Q_OVERFLOW: Final = 0x00004000
IGNORED: Final = 0x00008000
ISDIR: Final = 0x40000000

_ONLYDIR: Final = 0x01000000
_WATCHED: Final = OPEN | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC
_HEADER: Final = Struct("iIII")
_READ_BYTES: Final = 64 * 1024


class Event(NamedTuple):
    """One event. `name` is of the entry in the watched folder, empty for the folder itself, surrogate-escaped."""

    watch: int
    mask: int
    cookie: int
    name: str


class Inotify:
    """One inotify instance. Raises OSError where there is none (another system, a limit reached)."""

    def __init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError("this system has no inotify")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._checked(self._libc.inotify_init1(_NONBLOCK_CLOEXEC))

    def __repr__(self) -> str:
        return f"Inotify(fd={self.fd})"

    def add(self, folder_fd: int) -> int:
        """Watch an open folder; the same one gets the same number again. Raises OSError (ENOSPC: no watch is left)."""
        path = b"/proc/self/fd/%d" % folder_fd
        return self._checked(self._libc.inotify_add_watch(self.fd, path, _WATCHED | _ONLYDIR))

    def remove(self, watch: int) -> None:
        """End a watch. One that is over already is no error."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[Event]:
        """What has happened, a bounded part at a time; empty when there is nothing."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return []
        events = []
        position = 0
        while position < len(data):
            watch, mask, cookie, length = _HEADER.unpack_from(data, position)
            position += _HEADER.size
            name = data[position : position + length].rstrip(b"\0")
            position += length
            events.append(Event(watch, mask, cookie, os.fsdecode(name)))
        return events

    def close(self) -> None:
        """End all watches."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _checked(self, result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result
