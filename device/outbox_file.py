"""The outbox file: the operations that wait, the results that the application has not taken, and when to try again.

SQLite, one file per device, one process at a time by a lock beside it. What returns from `add` and `settle` has
outlived a kill and a power cut; what only matters to a process that is killed (`wait`, `give`) is not waited for on the
disk. An answer's whole meaning (results in, operations out, versions known, the wait over) is one transaction, so
wherever a process is killed each operation is either still queued or has its result.

Bounded in rows and bytes. What was settled is remembered for a while, so that an operation can be made after it and one
that is submitted again is known. A damaged file is set aside, never repaired by guessing; one of a newer client is left
as it is.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from device.errors import OperationInvalid, OutboxCorrupt, OutboxError, OutboxFull, OutboxLocked
from device.lock_file import Held, lock
from device.outbox import NEVER_SENT, Change, Queued, Wait
from device.outbox_database import open_database, put_aside, synchronous
from device.position_file import OnCorrupt
from device.results import Answer, Fault, Result, as_kept, from_kept
from device.submission import Submission
from shared.protocol.ids import check_device_id

__all__ = ["OVERHEAD_BYTES", "Counts", "OutboxFile", "OutboxLimits", "Saved", "exists", "with_base"]

OVERHEAD_BYTES: Final = 32  # a comma and `,"base_version":2147483647` in a batch


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """How many operations and results may be kept, how many bytes they may have, and how many settled ones are
    remembered."""

    rows: int = 10_000
    bytes: int = 64 * 1024 * 1024
    settled: int = 10_000


class Saved(NamedTuple):
    """What waits, as it was left."""

    queued: list[Queued]
    wait: Wait


class Counts(NamedTuple):
    """What is kept."""

    waiting: int
    waiting_bytes: int
    results: int
    results_bytes: int


class _Clocks(NamedTuple):
    """The two of the same moment: due times are kept by the wall clock, since the other one begins anew at a boot."""

    wall: float
    now: float


def exists(folder: Path, device_id: str) -> bool:
    """Whether operations of this device were ever kept there."""
    return _path(folder, device_id).exists()


class OutboxFile:
    """One device's file in one folder, `<device>.outbox`. Blocks; its calls are made in one thread after the other."""

    def __init__(
        self,
        folder: Path,
        device_id: str,
        *,
        limits: OutboxLimits | None = None,
        on_corrupt: OnCorrupt = "restart",
    ) -> None:
        """Lock and open. Raises OutboxLocked, OutboxCorrupt, OutboxError."""
        self.path = _path(folder, device_id)
        self.set_aside: Path | None = None
        self._limits = limits or OutboxLimits()
        self._is_synced = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_fd = lock(self.path.with_suffix(".outbox.lock"))
        except Held as held:
            raise OutboxLocked(f"{held}; stop it first") from None
        except OSError as error:
            raise OutboxError(f"operations cannot be kept in {folder}: {error.strerror}") from error
        try:
            try:
                self._db = open_database(self.path, device_id)
            except OutboxCorrupt:
                if on_corrupt == "raise":
                    raise
                self.set_aside = put_aside(self.path)
                self._db = open_database(self.path, device_id)
            self.counts = self._counted()
        except (OSError, sqlite3.Error) as error:
            os.close(self._lock_fd)
            raise OutboxError(f"{self.path}: {error}") from error
        except OutboxError:
            os.close(self._lock_fd)
            raise

    def __repr__(self) -> str:
        return f"OutboxFile({self.path}, {self.counts})"

    @property
    def is_full_of_results(self) -> bool:
        """Whether results have taken up all the room: nothing may be sent until some are taken."""
        return self.counts.results_bytes >= self._limits.bytes

    def close(self) -> None:
        """Close and unlock. Idempotent."""
        if self._lock_fd >= 0:
            fd, self._lock_fd = self._lock_fd, -1
            try:
                self._db.close()
            finally:
                os.close(fd)

    # -- what waits

    def load(self, wall: float, now: float) -> Saved:
        """All operations that wait, oldest first."""
        clocks = _Clocks(wall, now)
        with self._reading():
            rows = self._db.execute(
                "SELECT op_id, entity_id, size, base_version, after_op_id, tries, due_at, pause_s"
                " FROM queue ORDER BY number"
            ).fetchall()
            kept = self._db.execute("SELECT tries, due_at, pause_s, soft FROM wait").fetchone()
        queued = [
            Queued(op_id, entity_id, size + OVERHEAD_BYTES, base, after, tries, _due(due_at, pause_s, clocks))
            for op_id, entity_id, size, base, after, tries, due_at, pause_s in rows
        ]
        wait = Wait() if kept is None else Wait(kept[0], _due(kept[1], kept[2], clocks), bool(kept[3]))
        return Saved(queued, wait)

    def add(self, one: Submission) -> Queued | None:
        """Queue an operation, durably. None when it is here already, or is settled at once since the one before it had
        no effect. Raises OutboxFull, OperationInvalid, OutboxError."""
        size = len(one.body.encode())
        counts = self.counts
        with self._writing():
            if self._is_known(one):
                return None
            if (
                counts.waiting + counts.results >= self._limits.rows
                or counts.waiting_bytes + counts.results_bytes + size > self._limits.bytes
            ):
                raise self._full()
            base, after, fault = one.base, one.after, None
            if after is not None:
                base, after, fault = self._chained(one, after)
            if fault is None:
                self._db.execute(
                    "INSERT INTO queue (op_id, entity_id, body, size, base_version, after_op_id, digest)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (one.op_id, one.entity_id, one.body, size, base, after, one.digest),
                )
                counts = counts._replace(waiting=counts.waiting + 1, waiting_bytes=counts.waiting_bytes + size)
            else:
                answer = Answer(one.op_id, "rejected", 424, error=fault)
                size = self._insert_result(one.op_id, answer, one.body, None)
                self._remember(one.op_id, one.entity_id, None, one.digest)
                counts = counts._replace(results=counts.results + 1, results_bytes=counts.results_bytes + size)
        self.counts = counts
        if fault is not None:
            return None
        return Queued(one.op_id, one.entity_id, size + OVERHEAD_BYTES, base, after)

    def bodies(self, op_ids: Sequence[str]) -> list[str]:
        """The operations as they go out, without their versions, in this order."""
        with self._reading():
            found: Mapping[str, str] = dict(
                self._db.execute(
                    f"SELECT op_id, body FROM queue WHERE op_id IN ({','.join('?' * len(op_ids))})",  # noqa: S608
                    op_ids,
                ).fetchall()
            )
        if len(found) < len(set(op_ids)):
            raise OutboxError(f"{self.path}: an operation that waits is not in it")
        return [found[op_id] for op_id in op_ids]

    # -- what became of it

    def settle(self, change: Change, wait: Wait, *, wall: float, now: float) -> None:
        """Write down what an answer changed, durably and at once."""
        clocks = _Clocks(wall, now)
        waiting, waiting_bytes, results, results_bytes = self.counts
        with self._writing():
            for op_id, entity_id, answer, base, version in change.settled:
                body, size, digest = self._db.execute(
                    "SELECT body, size, digest FROM queue WHERE op_id = ?", (op_id,)
                ).fetchone()
                self._db.execute("DELETE FROM queue WHERE op_id = ?", (op_id,))
                waiting, waiting_bytes = waiting - 1, waiting_bytes - size
                results, results_bytes = results + 1, results_bytes + self._insert_result(op_id, answer, body, base)
                self._remember(op_id, entity_id, version, digest)
            self._db.executemany(
                "UPDATE queue SET tries = ?, due_at = ?, pause_s = ? WHERE op_id = ?",
                [(one.tries, *_kept(one.due, clocks), one.op_id) for one in change.put_off],
            )
            self._db.executemany(
                "UPDATE queue SET base_version = ?, after_op_id = NULL WHERE op_id = ?",
                [(one.base, one.op_id) for one in change.based],
            )
            self._write_wait(wait, clocks)
            if change.settled:
                self._db.execute(
                    "DELETE FROM settled WHERE number <= (SELECT max(number) FROM settled) - ?", (self._limits.settled,)
                )
        self.counts = Counts(waiting, waiting_bytes, results, results_bytes)

    def note(self, wait: Wait, *, wall: float, now: float) -> None:
        """Note how long to wait, for a process that is killed before there is an answer."""
        with self._writing(durably=False):
            self._write_wait(wait, _Clocks(wall, now))

    # -- results

    def result_after(self, number: int) -> Result | None:
        """The next result after this one."""
        with self._reading():
            row = self._db.execute(
                "SELECT number, op_id, answer, operation, is_given FROM results WHERE number > ?"
                " ORDER BY number LIMIT 1",
                (number,),
            ).fetchone()
        if row is None:
            return None
        try:
            return from_kept(row[1], row[2], row[3], number=row[0], redelivered=bool(row[4]))
        except msgspec.DecodeError as error:
            raise OutboxError(f"{self.path}: a result that is not as it was written: {error}") from None

    def give(self, number: int) -> None:
        """The application is about to be given this result."""
        with self._writing(durably=False):
            self._db.execute("UPDATE results SET is_given = 1 WHERE number = ?", (number,))

    def take(self, number: int) -> None:
        """The application has taken this result, durably."""
        with self._writing():
            row = self._db.execute("SELECT size FROM results WHERE number = ?", (number,)).fetchone()
            self._db.execute("DELETE FROM results WHERE number = ?", (number,))
        if row is not None:
            results, size = self.counts.results, self.counts.results_bytes
            self.counts = self.counts._replace(results=results - 1, results_bytes=size - row[0])

    # -- inside

    def _is_known(self, one: Submission) -> bool:
        row = self._db.execute(
            "SELECT digest FROM queue WHERE op_id = :op_id UNION ALL SELECT digest FROM settled WHERE op_id = :op_id",
            {"op_id": one.op_id},
        ).fetchone()
        if row is not None and row[0] != one.digest:
            raise OperationInvalid(
                f"op_id {one.op_id} is another operation's; give each its own, or none", field="op_id"
            )
        return row is not None

    def _chained(self, one: Submission, after: str) -> tuple[int | None, str | None, Fault | None]:
        """The version, or what to wait for, or why it is of no use."""
        row = self._db.execute("SELECT entity_id, 1, NULL FROM queue WHERE op_id = ?", (after,)).fetchone()
        row = row or self._db.execute("SELECT entity_id, 0, version FROM settled WHERE op_id = ?", (after,)).fetchone()
        if row is None:
            raise OperationInvalid(f"after: {after} is not known here (any more); name base_version", field="after")
        entity_id, waits, version = row
        if entity_id != one.entity_id:
            raise OperationInvalid(f"after: {after} is an operation on another entity, {entity_id}", field="after")
        if waits:
            return None, after, None
        if version is None:
            detail = f"not sent: {after}, which it was made after, had no effect"
            return None, None, Fault(NEVER_SENT, detail)
        return version, None, None

    def _insert_result(self, op_id: str, answer: Answer, body: str, base: int | None) -> int:
        kept, operation = as_kept(answer), with_base(body, base)
        size = len(kept.encode()) + len(operation.encode())
        self._db.execute(
            "INSERT INTO results (op_id, answer, operation, size) VALUES (?, ?, ?, ?)", (op_id, kept, operation, size)
        )
        return size

    def _remember(self, op_id: str, entity_id: str, version: int | None, digest: bytes) -> None:
        self._db.execute(
            "INSERT INTO settled (op_id, entity_id, version, digest) VALUES (?, ?, ?, ?)",
            (op_id, entity_id, version, digest),
        )

    def _write_wait(self, wait: Wait, clocks: _Clocks) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO wait (one, tries, due_at, pause_s, soft) VALUES (1, ?, ?, ?, ?)",
            (wait.tries, *_kept(wait.due, clocks), wait.soft),
        )

    def _counted(self) -> Counts:
        waiting = self._db.execute("SELECT count(*), coalesce(sum(size), 0) FROM queue").fetchone()
        return Counts(*waiting, *self._db.execute("SELECT count(*), coalesce(sum(size), 0) FROM results").fetchone())

    def _full(self) -> OutboxFull:
        waiting, waiting_bytes, results, results_bytes = self.counts
        return OutboxFull(
            f"{waiting} operations wait to be sent and {results} results to be taken,"
            f" {waiting_bytes + results_bytes} bytes; at most {self._limits.rows} and {self._limits.bytes} bytes are"
            " kept. Take the results, or wait until some are sent"
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if self._lock_fd < 0:
            raise OutboxError(f"{self.path}: the file is closed")
        try:
            yield
        except sqlite3.Error as error:
            raise OutboxError(f"{self.path}: {error}") from error

    @contextmanager
    def _writing(self, *, durably: bool = True) -> Iterator[None]:
        """One transaction. Not durably: it outlives the process, and the machine from the next durable one on."""
        with self._reading():
            if durably is not self._is_synced:
                synchronous(self._db, durably=durably)
                self._is_synced = durably
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise


def with_base(body: str, base: int | None) -> str:
    """An operation as it goes out."""
    return body if base is None else f'{body[:-1]},"base_version":{base}}}'


def _path(folder: Path, device_id: str) -> Path:
    return folder / f"{check_device_id(device_id)}.outbox"


def _kept(due: float, clocks: _Clocks) -> tuple[float | None, float | None]:
    pause_s = due - clocks.now
    return (clocks.wall + pause_s, pause_s) if pause_s > 0 else (None, None)


def _due(due_at: float | None, pause_s: float | None, clocks: _Clocks) -> float:
    """A clock that was set back meanwhile makes nothing wait longer than it was to wait at first."""
    if due_at is None or pause_s is None:
        return float("-inf")
    return clocks.now + max(0.0, min(due_at - clocks.wall, pause_s))
