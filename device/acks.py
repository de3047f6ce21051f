"""When finished events are worth an ack: after so many, so many bytes, or so long. Pure.

The hub says how many and how long. Bytes count as well, because its window may be small: a device that waits for a
count or a timer while the window is full of a few large events would stall the flow it acks. For the same reason the
wait is short in a lull, when nothing more comes although there is more, or when what is unacked weighs something: the
next event may be one that does not fit beside it.
Example: 10 KiB are finished, an event of 60 KiB waits at the hub, its window begins at 64 KiB. Acked after the lull
instead of after the full wait; a steady flow of small events never makes a lull that counts.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["Gathering"]

_LULL_BYTES: Final = 4 * 1024


@dataclass(slots=True)
class Gathering:
    """What was finished since the last ack."""

    every: int = 16
    wait_s: float = 0.5
    lull_s: float = 0.1
    bytes_limit: int = 16 * 1024
    since: float | None = None
    last: float = 0.0
    bytes: int = 0

    def add(self, size: int, now: float) -> None:
        """One more is finished."""
        self.bytes += size
        self.last = now
        if self.since is None:
            self.since = now

    def due(self, count: int, now: float, *, drained: bool, more: bool) -> bool:
        """Whether `count` finished and unacked events are to be acked now; the wait begins here if it has not.

        `drained`: nothing that was received waits for the application; `more`: the log holds what was not received.
        """
        if self.since is None:
            self.since = self.last = now
        if count >= self.every or self.bytes >= self.bytes_limit:
            return True
        return now >= self.due_at(drained=drained, more=more)

    def due_at(self, *, drained: bool, more: bool) -> float:
        """When the wait is over."""
        if self.since is None:
            return float("-inf")
        full = self.since + self.wait_s
        return min(full, self.last + self.lull_s) if drained and (more or self.bytes >= _LULL_BYTES) else full

    def clear(self) -> None:
        """All that was finished is acked."""
        self.since = None
        self.bytes = 0
