"""Private folders for jobs at work: a copy of the request in one file, what the handler writes in one folder.

Everything lies in one folder of this run, which the process holds a lock on. A process that is killed leaves its
folder; the next start finds the lock free and removes it, so leftovers never add up. All calls block and are meant
for a thread.
"""

import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

__all__ = ["JobFolder", "Scratch"]

_PREFIX: Final = "run-"
_LOCK: Final = "lock"


class JobFolder:
    """The folder of one attempt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.input = path / "input"
        self.output = path / "output"

    def remove(self) -> None:
        """Remove it with all that is in it. Safe to repeat."""
        shutil.rmtree(self.path, ignore_errors=True)


class Scratch:
    """This run's folder below `root`, which is made when missing, for the owner only."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = root
        self.path = root / f"{_PREFIX}{secrets.token_hex(8)}"
        # Locked before it has the name that a sweep looks for.
        making = root / f".{self.path.name}"
        making.mkdir(mode=0o700)
        self._lock = os.open(making / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        making.rename(self.path)

    def __repr__(self) -> str:
        return f"Scratch({str(self.path)!r})"

    def sweep(self) -> int:
        """Remove the folders of runs that are over; returns how many."""
        removed = 0
        for folder in self._root.glob(f"{_PREFIX}*"):
            if folder != self.path and _is_over(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        return removed

    def job_folder(self, name: str) -> JobFolder:
        """A new, empty folder."""
        folder = JobFolder(self.path / name)
        folder.path.mkdir(mode=0o700)
        folder.output.mkdir(mode=0o700)
        return folder

    def close(self) -> None:
        """Remove everything of this run."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _is_over(folder: Path) -> bool:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
