"""Whether Postgres answers, as everybody in the hub who asks it finds out.

The hub keeps its sockets whatever Postgres does. It only stops being ready, so that new devices go elsewhere, and
its loops wait a growing, jittered while between tries. A Postgres that hangs is as bad as one that is away, so every
question has a deadline.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import structlog

from shared.backoff import Backoff
from shared.store.errors import StoreBusy, StoreError, StoreUnavailable

__all__ = ["StoreWatch"]

_log = structlog.get_logger(__name__)


class StoreWatch:
    """The newest outcome counts: `failing` says why, None when Postgres answers."""

    def __init__(self, rand: Random, *, deadline_s: float, base_s: float = 0.1, cap_s: float = 2.0) -> None:
        self._rand = rand
        self._deadline_s = deadline_s
        self._base_s = base_s
        self._cap_s = cap_s
        self.failing: str | None = None

    def __repr__(self) -> str:
        return f"StoreWatch({self.failing or 'answers'})"

    def backoff(self) -> Backoff:
        """A wait sequence of one loop."""
        return Backoff(self._rand, base=self._base_s, cap=self._cap_s)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Around a question to Postgres. Raises StoreError; no answer within the deadline is StoreUnavailable."""
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except TimeoutError:
            late = StoreUnavailable(f"no answer within {self._deadline_s:g} s")
            self.failed(late)
            raise late from None
        except StoreError as error:
            self.failed(error)
            raise
        self.answered()

    def answered(self) -> None:
        """A statement worked."""
        if self.failing is not None:
            self.failing = None
            _log.info("postgres answers again")

    def failed(self, error: StoreError) -> None:
        """A statement did not work. One that only had to wait too long for a lock says nothing about the server."""
        if isinstance(error, StoreBusy):
            _log.warning("postgres is busy", reason=str(error))
            return
        if self.failing is None:
            _log.warning("postgres does not answer", reason=str(error))
        self.failing = str(error)
