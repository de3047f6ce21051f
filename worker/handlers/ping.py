"""Answers at once, with the time: whether requests are answered here, and how soon."""

from typing import Final

from shared.clock import wall
from worker.handlers.async_contract import Context
from worker.handlers.contract import Answer, Task

__all__ = ["PingHandler"]


class PingHandler:
    """A request of kind `ping` → when it was begun."""

    kind: Final = "ping"
    extensions: Final[frozenset[str]] = frozenset()
    small: Final = True

    async def handle(self, task: Task, context: Context) -> Answer:
        """The worker's clock, in seconds since 1970."""
        del task, context
        return Answer("processed", summary={"at": round(wall(), 6)})
