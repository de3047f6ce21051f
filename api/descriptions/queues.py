"""The queues of jobs."""

from typing import Final

from msgspec import Struct

from api.description import Answer, Description

__all__ = ["LIST_QUEUES", "Queue", "Queues", "Rates"]


class Rates(Struct, frozen=True):
    """How many jobs a second came into each state in the last ten seconds, or as far back as 5,000 changes reach."""

    queued: float = 0.0
    running: float = 0.0
    done: float = 0.0
    retry: float = 0.0
    dead: float = 0.0
    cancelled: float = 0.0


class Queue(Struct, frozen=True):
    """`waiting` jobs could run now, `delayed` ones later; the first of them could have run for `oldest_s` seconds."""

    queue: str
    waiting: int
    delayed: int
    running: int
    oldest_s: float
    per_s: Rates


class Queues(Struct, frozen=True):
    """Queues that hold something or had something lately. Each count ends at 20,000."""

    queues: list[Queue]


LIST_QUEUES: Final = Description(
    id="listQueues",
    summary="How the queues of jobs stand",
    answers={200: Answer("The queues by name.", Queues)},
)
