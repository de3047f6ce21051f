"""How much may be on its way to one device: at most so many events, or so many bytes, sent and not yet acked.

The byte budget starts small and grows with what the device acks, so that a weak link is never handed more than it has
shown it can carry and a good one soon has a megabyte in flight. An empty window admits one event of any size, or a
large event would never leave. Where the budget ends may change as the link shows what it carries.
"""

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

    __slots__ = ("_first", "_limits", "_sizes", "acked_bytes", "budget", "ceiling", "used_bytes")

    def __init__(self, limits: WindowLimits) -> None:
        self._limits = limits
        # Of events without a hole, from `_first` on: a gap is never sent over, and an ack beyond it empties the window.
        self._sizes: list[int] = []
        self._first = 0
        self.used_bytes = 0
        self.acked_bytes = 0
        self.budget = limits.first_bytes
        self.ceiling = limits.max_bytes

    def __repr__(self) -> str:
        return f"Window({len(self._sizes)} of {self._limits.events} events, {self.used_bytes} of {self.budget} bytes)"

    @property
    def used_events(self) -> int:
        """Events sent and not acked."""
        return len(self._sizes)

    @property
    def room_events(self) -> int:
        """Events that may still be sent."""
        return self._limits.events - len(self._sizes)

    @property
    def room_bytes(self) -> int:
        """Bytes that may still be sent."""
        return max(0, self.budget - self.used_bytes)

    @property
    def is_roomy(self) -> bool:
        """Whether at least half of it is free: less is not worth a read of the log."""
        return 2 * len(self._sizes) <= self._limits.events and 2 * self.used_bytes <= self.budget

    def take(self, seq: int, size: int) -> bool:
        """Whether event `seq` of `size` bytes may be sent now; then it counts as sent. Seqs rise by one."""
        sizes = self._sizes
        used = self.used_bytes + size
        if not sizes:
            self._first = seq
        elif used > self.budget or len(sizes) >= self._limits.events:
            return False
        sizes.append(size)
        self.used_bytes = used
        return True

    def release(self, seq: int) -> None:
        """Everything up to `seq` is acked: it leaves the window and widens the budget."""
        sizes = self._sizes
        count = seq - self._first + 1
        if count <= 0 or not sizes:
            return
        if count >= len(sizes):
            released = self.used_bytes
            sizes.clear()
        else:
            self._first = seq + 1
            released = sum(sizes[:count])
            del sizes[:count]
        self.used_bytes -= released
        self.acked_bytes += released
        if self.budget < self.ceiling:
            self.budget = min(self.ceiling, self.budget + released)

    def limit(self, ceiling: int) -> None:
        """The budget ends here from now on, never above the limits. What is on its way already stays."""
        self.ceiling = min(ceiling, self._limits.max_bytes)
        self.budget = min(self.budget, self.ceiling)
