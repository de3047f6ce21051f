"""The port of job hints: a word to the workers of a queue that a committed job waits there.

A hint carries only the job's id and is never trusted: workers ask Postgres. It may be lost, repeated or late, and then
polling finds the job a second or two later. So nobody waits for a hint to be sent, and nobody fails without a server
that carries them. What is promised is small: a hint goes to one worker of the queue, and one whose taker dies before
it asked Postgres goes to another.
"""

from collections.abc import Sequence
from typing import Final, Protocol
from uuid import UUID

from shared.bus.routed_queue import Offer

__all__ = ["HELD_MAX", "HINT_AGE_S", "HintOffers", "HintWaits", "Offer"]

HELD_MAX: Final = 10_000
"""Hints of one queue that a server keeps: beyond it the oldest go, of jobs that polling has found by then."""

HINT_AGE_S: Final = 2.0
"""A hint that could not be sent for so long is dropped: by then polling has found its job."""


class HintOffers(Protocol):
    """The sending side: `offer()` after the commit. `run()` is its task; `close()` flushes and ends it."""

    @property
    def connected(self) -> bool:
        """Whether hints go out now."""

    @property
    def held(self) -> int:
        """What was offered and is not with the server yet."""

    def offer(self, queue: str, job_id: UUID) -> Offer:
        """Queue a hint for the workers of `queue`. Never waits; says when there is no room."""

    async def run(self) -> None:
        """Keep the connection and drain the queue until `close()`. A server that is away is asked again and again."""

    async def close(self) -> None:
        """Flush for at most a second, then end `run()`."""


class HintWaits(Protocol):
    """The receiving side of one worker and queue. Asking again, or resting, says that what came before was used."""

    async def wait(self, timeout_s: float, *, count: int = 50) -> Sequence[UUID]:
        """Jobs that may wait now: at once when there are hints, else none after `timeout_s`. Never raises.

        Without a server this is a plain sleep.
        """

    async def rest(self) -> None:
        """This worker has no room for a while: what was not given to it yet goes to the others. Never raises."""

    async def close(self) -> None:
        """Leave. What was given and not used yet goes to the others."""
