"""When to look at a path [pure]: the notices of a feed, in order of when each is due.

A file moved in is complete and due at once. A file that was closed after writing is due when it has been quiet for
the settle time, since many programs close and open again. A file that was linked or created is due after the settle
time too, unless somebody opened it first: then a writer is at work, and its close is waited for. A file that a scan
came upon is looked at twice, because nothing says that its writer is done. What changes while it is read is looked at
again, ever later.

Each path is here once, however often it is noticed, and the number of paths is bounded: above it `notice` says no,
and the caller must scan instead.
"""

import heapq
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

_WRITING_MAX_S: Final = 600.0
_SETTLE_TIMES_MAX: Final = 20
_RETRY_MAX_S: Final = 30.0
_ATTEMPTS_MAX: Final = 8


class Notice(Enum):
    """What the operating system says happened to a path."""

    MOVED_IN = "moved_in"
    CLOSED = "closed"
    CREATED = "created"
    OPENED = "opened"
    REMOVED = "removed"


class FileStat(NamedTuple):
    """What stands while the content stands."""

    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Look:
    """A path that is due. `fresh`: it was removed meanwhile, so what is there now is another file.

    `expect` is what a scan saw: only the same seen again counts. `noticed_at` is when the operating system spoke.
    """

    path: str
    noticed_at: float
    live: bool = False
    fresh: bool = False
    baseline: bool = False
    expect: FileStat | None = None


@dataclass(slots=True)
class _Wait:
    noticed_at: float
    due: float
    live: bool = False
    fresh: bool = False
    fresh_taken: bool = False
    baseline: bool = False
    created: bool = False
    writing: bool = False
    looking: bool = False
    again: bool = False
    attempt: int = 0
    expect: FileStat | None = None
    ticket: int = field(default=0)


class Pacing:
    """The paths of one feed that wait for a look."""

    def __init__(self, *, settle_s: float, quiet_s: float, limit: int = 10_000) -> None:
        self._settle_s = settle_s
        self._quiet_s = quiet_s
        self._limit = limit
        self._waits: dict[str, _Wait] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._waits)

    def __contains__(self, path: str) -> bool:
        return path in self._waits

    def __repr__(self) -> str:
        looking = sum(wait.looking for wait in self._waits.values())
        return f"Pacing({len(self._waits)} paths, {looking} looked at, next due {self.next_due()})"

    @property
    def baseline_left(self) -> int:
        """How many paths of the first scan still wait."""
        return sum(wait.baseline for wait in self._waits.values())

    def notice(self, path: str, what: Notice, now: float) -> bool:
        """Take a notice. False: full, the notice is lost."""
        wait = self._waits.get(path)
        if wait is None:
            if what is Notice.OPENED:
                return True
            if len(self._waits) >= self._limit:
                return False
            wait = self._waits[path] = _Wait(noticed_at=now, due=now)
        elif what is Notice.OPENED:
            if wait.created and not wait.looking:
                wait.created, wait.writing = False, True
                self._set_due(path, wait, now + _WRITING_MAX_S)
            return True
        self._apply(path, wait, what, now)
        return True

    def _apply(self, path: str, wait: _Wait, what: Notice, now: float) -> None:
        if not wait.live:
            # A scan's find became an event: its own rules apply from here on.
            wait.noticed_at, wait.live = now, True
        wait.expect, wait.baseline, wait.attempt, wait.writing = None, False, 0, False
        wait.created = what is Notice.CREATED
        wait.again = wait.looking
        if what is Notice.REMOVED:
            wait.fresh = True
            due = now
        elif what is Notice.MOVED_IN:
            due = now
        else:
            due = min(now + self._settle_s, max(now, wait.noticed_at + _SETTLE_TIMES_MAX * self._settle_s))
        self._set_due(path, wait, due)

    def found(self, path: str, stat: FileStat | None, now: float, *, baseline: bool = False) -> bool:
        """A scan saw a file that the ledger does not know like this, or (None) missed one. False: full, scan again."""
        if path in self._waits:
            return True
        if len(self._waits) >= self._limit:
            return False
        wait = self._waits[path] = _Wait(noticed_at=now, due=now, baseline=baseline, expect=stat)
        self._set_due(path, wait, now if stat is None else now + self._quiet_s)
        return True

    def take(self, now: float, limit: int) -> list[Look]:
        """The paths that are due, at most `limit`. Each must be answered by finished, unsettled or failed."""
        looks: list[Look] = []
        while self._heap and len(looks) < limit and self._heap[0][0] <= now:
            _, ticket, path = heapq.heappop(self._heap)
            wait = self._waits.get(path)
            if wait is None or wait.ticket != ticket or wait.looking:
                continue
            looks.append(Look(path, wait.noticed_at, wait.live, wait.fresh, wait.baseline, wait.expect))
            wait.looking, wait.again, wait.created, wait.writing = True, False, False, False
            wait.fresh_taken, wait.fresh = wait.fresh, False
        return looks

    def next_due(self) -> float | None:
        """When the next path is due, None when nothing waits."""
        while self._heap:
            due, ticket, path = self._heap[0]
            wait = self._waits.get(path)
            if wait is not None and wait.ticket == ticket and not wait.looking:
                return due
            heapq.heappop(self._heap)
        return None

    def finished(self, path: str, now: float) -> None:
        """What was seen is recorded, or needs no record."""
        wait = self._waits[path]
        wait.looking = False
        if not wait.again:
            del self._waits[path]
            return
        wait.again, wait.fresh_taken, wait.noticed_at = False, False, now
        self._set_due(path, wait, max(wait.due, now))

    def unsettled(self, path: str, now: float, stat: FileStat | None = None) -> None:
        """The file changed while it was read, or since the scan saw it."""
        wait = self._waits[path]
        wait.looking, wait.baseline = False, False
        wait.fresh |= wait.fresh_taken
        if wait.expect is not None:
            wait.expect = stat
        self._later(path, wait, now, max(self._settle_s, 0.01) if wait.live else self._quiet_s)

    def failed(self, path: str, now: float) -> bool:
        """The look or the record failed. False: too often, and the path is left to the next scan."""
        wait = self._waits[path]
        wait.looking = False
        wait.fresh |= wait.fresh_taken
        if wait.attempt >= _ATTEMPTS_MAX and not wait.again:
            del self._waits[path]
            return False
        self._later(path, wait, now, 0.2)
        return True

    def forget_writing(self) -> None:
        """Closes may have been lost: leave files that are being written to the scan that follows."""
        for path in [path for path, wait in self._waits.items() if wait.writing and not wait.looking]:
            del self._waits[path]

    def _later(self, path: str, wait: _Wait, now: float, base: float) -> None:
        if wait.again:
            wait.again = False
            self._set_due(path, wait, max(wait.due, now))
            return
        wait.attempt += 1
        self._set_due(path, wait, now + min(base * 2.0 ** (wait.attempt - 1), _RETRY_MAX_S))

    def _set_due(self, path: str, wait: _Wait, due: float) -> None:
        self._tickets += 1
        wait.due, wait.ticket = due, self._tickets
        heapq.heappush(self._heap, (due, wait.ticket, path))
        if len(self._heap) > 4 * len(self._waits) + 64:
            self._heap = [(w.due, w.ticket, p) for p, w in self._waits.items()]
            heapq.heapify(self._heap)
