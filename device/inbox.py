"""What was received and not yet taken by the application, in order, within bounds; and the one thing it has in hand.

Pure.
"""

from collections import deque
from dataclasses import dataclass

from device.actions import Delivery, ResetSaid

__all__ = ["Inbox", "Item"]


@dataclass(slots=True)
class Item:
    """An event or a reset, and what it weighs."""

    content: Delivery | ResetSaid
    size: int


class Inbox:
    """Filled by the session as long as there is `room`; emptied one by one."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self.in_hand: Item | None = None

    def put(self, content: Delivery | ResetSaid, size: int = 0) -> None:
        """Append. A reset right after another one takes its place."""
        if isinstance(content, ResetSaid) and self._items and isinstance(self._items[-1].content, ResetSaid):
            self._items.pop()
        self._items.append(Item(content, size))
        self._bytes += size

    def take(self) -> Item | None:
        """The next one, in hand from now on; None when there is none."""
        if self.in_hand is not None:
            raise AssertionError("finish() or give_back() comes before the next take()")
        if not self._items:
            return None
        self.in_hand = self._items.popleft()
        self._bytes -= self.in_hand.size
        return self.in_hand

    def let_go(self) -> Item:
        """What was in hand is not any more."""
        if self.in_hand is None:
            raise AssertionError("finish() and give_back() follow take()")
        item, self.in_hand = self.in_hand, None
        return item

    def put_back(self, item: Item) -> None:
        """First in the row again."""
        self._items.appendleft(item)
        self._bytes += item.size

    def clear(self) -> None:
        """Forget what waits; what is in hand stays."""
        self._items.clear()
        self._bytes = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._items)

    @property
    def room(self) -> int:
        """How many more events may come."""
        return max(0, self._max_events - len(self._items)) if self._bytes < self._max_bytes else 0

    @property
    def unfinished(self) -> bool:
        """Whether the application has something left to do."""
        return self.in_hand is not None or bool(self._items)
