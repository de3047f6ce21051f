"""What was used last, as much of it as has room [pure]."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

__all__ = ["ByteLru"]

K = TypeVar("K")
V = TypeVar("V")


class _Kept(NamedTuple, Generic[V]):
    value: V
    size: int


class ByteLru(Generic[K, V]):
    """Values of known sizes, so many bytes and entries at most; what was not used for longest goes first."""

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()
        self.size_bytes = 0

    def __repr__(self) -> str:
        return f"ByteLru({len(self._kept)} of {self._max_entries}, {self.size_bytes} of {self._max_bytes} bytes)"

    def __len__(self) -> int:
        return len(self._kept)

    def use(self, key: K) -> V | None:
        """The value, which is used by this."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return kept.value

    def peek(self, key: K) -> V | None:
        """The value, which is not used by this."""
        kept = self._kept.get(key)
        return None if kept is None else kept.value

    def put(self, key: K, value: V, size: int) -> int:
        """Keep a value, unless it has no room at all. Returns how many others had to go."""
        self.discard(key)
        if size > self._max_bytes:
            return 0
        self._kept[key] = _Kept(value, size)
        self.size_bytes += size
        gone = 0
        while self.size_bytes > self._max_bytes or len(self._kept) > self._max_entries:
            _, oldest = self._kept.popitem(last=False)
            self.size_bytes -= oldest.size
            gone += 1
        return gone

    def discard(self, key: K) -> bool:
        """Let go of a value, if it is there."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return False
        self.size_bytes -= kept.size
        return True

    def values(self) -> Sequence[V]:
        """All of them, the least lately used first."""
        return [kept.value for kept in self._kept.values()]
