"""Opens the database of an outbox: made if there is none, checked, and durable from the first commit on.

A write-ahead log with a sync at each commit, held by one process alone, so it works without shared memory. What turns
out to be damaged is told apart from a disk that is full or not ours to write.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from device.errors import OutboxCorrupt, OutboxError
from device.lock_file import sync_folder

__all__ = ["open_database", "put_aside", "synchronous"]

_APPLICATION_ID: Final = 0x46574F42  # "FWOB"
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = Path(__file__).with_name("outbox_schema.sql")
_ASIDE_MAX: Final = 9
_LOG_KEPT_BYTES: Final = 4 * 1024 * 1024


def open_database(path: Path, device_id: str) -> sqlite3.Connection:
    """Open it for this process alone. Raises OutboxCorrupt, OutboxError, sqlite3.Error, OSError."""
    with suppress(FileExistsError):
        # Not left to the library: only its owner may read it, and no link is followed.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        sync_folder(path.parent)
    if path.is_symlink():
        raise OutboxError(f"{path} is a link; put the file itself there")
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        _prepare(db, path, device_id)
    except sqlite3.DatabaseError as error:
        db.close()
        if isinstance(error, sqlite3.OperationalError) and not _is_missing(error):
            raise  # the disk, or its rights
        raise OutboxCorrupt(
            f"{path} is damaged ({error}). Move it away to go on without the operations in it."
        ) from None
    except OutboxError:
        db.close()
        raise
    return db


def synchronous(db: sqlite3.Connection, *, durably: bool) -> None:
    """Whether a commit waits for the disk. If not, it outlives the process, and the machine with the next that does."""
    db.execute(f"PRAGMA synchronous = {'FULL' if durably else 'NORMAL'}")


def put_aside(path: Path) -> Path:
    """Give a damaged file another name, with what was not written back into it yet. Raises OutboxCorrupt, OSError."""
    numbers = ("", *(f"-{number}" for number in range(2, _ASIDE_MAX + 1)))
    names = [path.with_name(f"{path.name}.corrupt{number}") for number in numbers]
    free = next((name for name in names if not name.exists()), None)
    if free is None:
        raise OutboxCorrupt(f"{path} is damaged, and so were {_ASIDE_MAX} before it; look at the disk")
    for suffix in ("-wal", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(free.with_name(free.name + suffix))
    sync_folder(path.parent)
    return free


def _prepare(db: sqlite3.Connection, path: Path, device_id: str) -> None:
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA fullfsync = 1")
    db.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT_BYTES}")
    synchronous(db, durably=True)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not (version or application or tables):
        db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA.read_text('utf-8')}")
        db.execute("INSERT INTO device VALUES (?)", (device_id,))
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        db.execute("COMMIT")
    elif application != _APPLICATION_ID:
        raise OutboxCorrupt(f"{path} is not an outbox file")
    elif version != _SCHEMA_VERSION:
        raise OutboxError(f"{path} was written by a newer client (format {version}); update this one")
    (flaw,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if flaw != "ok":
        raise OutboxCorrupt(f"{path} is damaged ({flaw})")
    db.execute("SELECT 1 FROM queue, results, settled, wait LIMIT 0")
    owner = db.execute("SELECT device_id FROM device").fetchone()
    if owner is None or owner[0] != device_id:
        raise OutboxError(f"{path} is of another device ({owner[0] if owner else 'nobody'})")


def _is_missing(error: sqlite3.OperationalError) -> bool:
    """Whether something that our files have is not in this one."""
    return str(error).startswith(("no such table", "no such column"))
