"""Where one worker's walks round a queue stand, and when the lower priorities come first. Pure; kept by the worker.

A walk goes on round the devices where the last one of that priority ended, so a device with one job waits for the
others' turns, not for their jobs. The highest priority with a due job is claimed first. So that this starves nobody,
one job in `LIFTED_EVERY` is claimed from another priority first, of those in use each in turn: with B priorities in
use, each has at least one in B × LIFTED_EVERY of the jobs that are claimed.
"""

from typing import Final

__all__ = ["EMPTY_MAX", "LIFTED_EVERY", "PRIORITY_MAX", "PRIORITY_MIN", "STEPS_MIN", "Turns"]

PRIORITY_MIN: Final = -9
PRIORITY_MAX: Final = 9
LIFTED_EVERY: Final = 8
STEPS_MIN: Final = 256
EMPTY_MAX: Final = 16
"""Walks one after another that may find nothing due, though they did not see all: then the next waits for its time."""


class Turns:
    """Of one queue. `more`: the last claim left what the next might take at once. `rivals`: others claim just that.

    `held_back`: there may be jobs that wait for one of their own device to end.
    """

    def __init__(self) -> None:
        self._stands: dict[int, str] = {}
        self._plain_jobs = 0
        self._lifts = 0
        self._empty = 0
        self.more = False
        self.rivals = False
        self.held_back = False

    def __repr__(self) -> str:
        return f"Turns({self._stands}, {self._plain_jobs} since lift {self._lifts})"

    @property
    def stands(self) -> tuple[list[int], list[str]]:
        """Ranks (priorities negated) and the device at which the last walk in each ended."""
        return list(self._stands), list(self._stands.values())

    def turn(self, room: int) -> int:
        """By how much the priorities are turned for a claim of so many: 0, the highest first, but for one in eight."""
        return self._lifts + 1 if self._plain_jobs >= (LIFTED_EVERY - 1) * room else 0

    def steps(self, room: int) -> int:
        """How far a walk may go for so many: devices with nothing due are passed, but not all of them at once."""
        return max(STEPS_MIN, 2 * room)

    def walked(self, rank: int | None, device_id: str | None) -> None:
        """A walk was committed that ended at this device."""
        if rank is not None and device_id is not None:
            self._stands[rank] = device_id

    def claimed(self, jobs: int, *, turn: int, unseen: bool, rivals: bool) -> None:
        """So many jobs were claimed with the priorities turned by `turn`. `unseen`: others may be due."""
        if not turn:
            self._plain_jobs += jobs
        else:
            self._lifts, self._plain_jobs = turn, 0
        self._empty = 0 if jobs else self._empty + 1
        self.rivals = rivals and not jobs
        self.more = (unseen or rivals or bool(turn)) and self._empty < EMPTY_MAX
