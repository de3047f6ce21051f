"""Which endings share a transaction. [pure]

In the order in which they came, as many as one transaction should hold. Two ends of one job (an attempt that lost its
lease, and its heir on the same worker) never share one: the database answers by job, and only one of them was ours.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

__all__ = ["BatchLimits", "next_batch"]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one transaction holds at most, whichever is reached first; one ending always fits."""

    endings: int = 500
    files: int = 1000
    bytes: int = 4 * 1024 * 1024


class Weighed(Protocol):
    """What is needed of an ending: its job, and what it writes."""

    @property
    def job_id(self) -> UUID:
        """The job."""

    @property
    def file_count(self) -> int:
        """Rows of files."""

    @property
    def size(self) -> int:
        """Bytes of its event."""


E = TypeVar("E", bound=Weighed)


def next_batch(waiting: deque[E], limits: BatchLimits) -> list[E]:
    """Take what goes into the next transaction out of what waits."""
    batch: list[E] = []
    seen: set[UUID] = set()
    files = size = 0
    while waiting and len(batch) < limits.endings:
        ending = waiting[0]
        files += ending.file_count
        size += ending.size
        if batch and (files > limits.files or size > limits.bytes or ending.job_id in seen):
            break
        seen.add(ending.job_id)
        batch.append(waiting.popleft())
    return batch
