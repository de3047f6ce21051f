"""When finished events are worth an ack: after so many, so many bytes, or so long. Pure.

The hub says how many and how long. Bytes count as well, because its window may be small: a device that waits for a
count or a timer while the window is full of a few large events would stall the flow it acks.
"""

from dataclasses import dataclass

__all__ = ["Gathering"]


@dataclass(slots=True)
class Gathering:
    """What was finished since the last ack."""

    every: int = 16
    wait_s: float = 0.5
    bytes_limit: int = 16 * 1024
    since: float | None = None
    bytes: int = 0

    def add(self, size: int, now: float) -> None:
        """One more is finished."""
        self.bytes += size
        if self.since is None:
            self.since = now

    def due(self, count: int, now: float) -> bool:
        """Whether `count` finished and unacked events are to be acked now; the wait begins here if it has not."""
        if self.since is None:
            self.since = now
        return count >= self.every or self.bytes >= self.bytes_limit or now - self.since >= self.wait_s

    @property
    def due_at(self) -> float:
        """When the wait is over."""
        return float("-inf") if self.since is None else self.since + self.wait_s

    def clear(self) -> None:
        """All that was finished is acked."""
        self.since = None
        self.bytes = 0
