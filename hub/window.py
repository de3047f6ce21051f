"""How much may be on its way to one device: at most so many events, or so many bytes, sent and not yet acked.

The byte budget starts small and grows with what the device acks, so that a weak link is never handed more than it has
shown it can carry and a good one soon has a megabyte in flight. An empty window admits one event of any size, or a
large event would never leave.
"""

from collections import deque
from dataclasses import dataclass

__all__ = ["Window", "WindowLimits"]


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """Events, and bytes of event bodies: where the budget starts and where it ends."""

    events: int = 256
    first_bytes: int = 64 * 1024
    max_bytes: int = 1024 * 1024


class Window:
    """What one session has sent and not had acked."""

    __slots__ = ("_limits", "_sent", "budget", "used_bytes")

    def __init__(self, limits: WindowLimits) -> None:
        self._limits = limits
        self._sent: deque[tuple[int, int]] = deque()
        self.used_bytes = 0
        self.budget = limits.first_bytes

    def __repr__(self) -> str:
        return f"Window({len(self._sent)} of {self._limits.events} events, {self.used_bytes} of {self.budget} bytes)"

    @property
    def used_events(self) -> int:
        """Events sent and not acked."""
        return len(self._sent)

    @property
    def room_events(self) -> int:
        """Events that may still be sent."""
        return self._limits.events - len(self._sent)

    @property
    def room_bytes(self) -> int:
        """Bytes that may still be sent."""
        return max(0, self.budget - self.used_bytes)

    @property
    def is_roomy(self) -> bool:
        """Whether at least half of it is free: less is not worth a read of the log."""
        return 2 * len(self._sent) <= self._limits.events and 2 * self.used_bytes <= self.budget

    def admits(self, size: int) -> bool:
        """Whether an event of `size` bytes may be sent now."""
        sent = self._sent
        return not sent or (len(sent) < self._limits.events and self.used_bytes + size <= self.budget)

    def add(self, seq: int, size: int) -> None:
        """Event `seq` was sent; seqs only rise."""
        self._sent.append((seq, size))
        self.used_bytes += size

    def release(self, seq: int) -> None:
        """Everything up to `seq` is acked: it leaves the window and widens the budget."""
        sent = self._sent
        released = 0
        while sent and sent[0][0] <= seq:
            released += sent.popleft()[1]
        if released:
            self.used_bytes -= released
            if self.budget < self._limits.max_bytes:
                self.budget = min(self._limits.max_bytes, self.budget + released)
