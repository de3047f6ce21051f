"""Where live events that came too early wait, and where they meet what is read from the log.

Example: 7 is sent, the bus brings 10 and 9, a read after 7 returns 8 and 9. What follows is 8, 9 (from the log, not
again from the bus), 10. Every event that waits here is also in the log, so when the room is used up it is simply
dropped.
"""

from collections.abc import Iterator, Sequence
from typing import Final

__all__ = ["HELD_BYTES_MAX", "HELD_MAX", "Held", "contiguous"]

HELD_MAX: Final = 64
HELD_BYTES_MAX: Final = 256 * 1024


class Held:
    """At most 64 events and, beyond the first, 256 KiB of them, by seq."""

    __slots__ = ("_bytes", "bodies")

    def __init__(self) -> None:
        self.bodies: dict[int, bytes] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.bodies)

    def __repr__(self) -> str:
        return f"Held({sorted(self.bodies)})"

    def put(self, seq: int, body: bytes) -> bool:
        """Keep an event. False when there is no room for it."""
        bodies = self.bodies
        if seq in bodies:
            return True
        if bodies and (len(bodies) >= HELD_MAX or self._bytes + len(body) > HELD_BYTES_MAX):
            return False
        bodies[seq] = body
        self._bytes += len(body)
        return True

    def pop(self, seq: int) -> bytes | None:
        """Take an event out."""
        body = self.bodies.pop(seq, None)
        if body is not None:
            self._bytes -= len(body)
        return body

    def forget(self, low: int, high: int) -> None:
        """Drop what has low < seq ≤ high."""
        for seq in [seq for seq in self.bodies if low < seq <= high]:
            self.pop(seq)

    def clear(self) -> None:
        """Drop everything."""
        self.bodies.clear()
        self._bytes = 0


def contiguous(history: Sequence[tuple[int, bytes]], held: Held, after: int) -> Iterator[tuple[int, bytes]]:
    """The unbroken run of events that follows `after`: from the log, then from what was held. Stops at the first hole.

    `held` loses what the run passes.
    """
    for seq, body in history:
        if seq <= after:
            continue
        if seq != after + 1:
            return
        held.pop(seq)
        after = seq
        yield seq, body
    while held and (body_held := held.pop(after + 1)) is not None:
        after += 1
        yield after, body_held
