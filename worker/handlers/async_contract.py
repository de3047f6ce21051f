"""What an asynchronous handler is: a coroutine on the worker's loop, for work that waits and does not compute.

It gets the same `Task` as any handler, a `Context` beside it, and a deadline. It must await whatever takes long, never
block (the leases of all jobs are renewed on the same loop), and leave what computes to `context.process`, which runs
a handler in a process of the pool.

It is cancelled when its time is over, when the job is cancelled or another's, and when the worker stops; then it has
two seconds to give back what it holds. An attempt that was cut short runs again from the beginning, so an effect
outside must be safe to repeat.

A `Refusal` that is raised is the answer. `TryAgain` says that this attempt came to nothing through no fault of the
job. Anything else fails the attempt, and the job is tried again.

A handler that says `small = True` needs no file and makes none: where a request came with its call, it gets it as
`task.body`, nothing is staged for it, and its answer, if it is short, goes out within the event itself.

Other packages add such handlers by an entry point of the group `fleetwire.async_handlers`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from worker.handlers.contract import Answer, Task

__all__ = ["ASYNC_ENTRY_POINT_GROUP", "CANCEL_GRACE_S", "AsyncHandler", "Context", "Processed", "TryAgain"]

ASYNC_ENTRY_POINT_GROUP: Final = "fleetwire.async_handlers"
CANCEL_GRACE_S: Final = 2.0


class TryAgain(Exception):
    """What the handler needs is away. The attempt is not counted; the next begins after `after_s` at the earliest."""

    def __init__(self, detail: str, *, after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Processed:
    """What a handler in a process of the pool answered about the same file, and the folder that it wrote into."""

    answer: Answer
    folder: Path


@dataclass(frozen=True, slots=True)
class Context:
    """The attempt a handler is called for.

    `remaining_s()` is what is left until it is cancelled. `process(kind)` runs the handler of that kind in a process
    of the pool, on the same file; what that one writes is private to this attempt and no part of the response.
    """

    job_id: UUID
    device_id: str
    attempt: int
    remaining_s: Callable[[], float]
    process: Callable[[str], Awaitable[Processed]]


class AsyncHandler(Protocol):
    """One kind of request. Its attribute `small` is taken for False where it has none."""

    @property
    def kind(self) -> str:
        """The kind, as in jobs and metrics: a-z, 0-9, - and _."""

    @property
    def extensions(self) -> frozenset[str]:
        """File name extensions it takes, lower case with the dot."""

    async def handle(self, task: Task, context: Context) -> Answer:
        """Do the work."""
