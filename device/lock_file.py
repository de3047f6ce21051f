"""One process at a time: a lock beside a file that is kept, and what makes a new name outlive the machine.

The lock is a file of its own, since the file it is for may be replaced.
"""

import fcntl
import os
from pathlib import Path

__all__ = ["Held", "lock", "sync_folder"]


class Held(Exception):
    """Another process has the lock. `str()` says which, as the beginning of a sentence."""


def lock(path: Path) -> int:
    """Take the lock until the descriptor is closed or the process ends. Raises Held, OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        if isinstance(error, BlockingIOError):
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise Held(f"{path}: {who} runs a client of this device") from None
        raise
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def sync_folder(folder: Path) -> None:
    """Make the folder's names durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
