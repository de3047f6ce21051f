"""What was told of a partition's objects, so that only what differs is told again [pure].

A snapshot bears the name that its cursor has. It moves on only when that newer cursor comes back, for until then the
page may not have been recorded and has to be told again: 1. snapshot `a`; 2. page with `+x`, cursor `b`; 3a. asked
after `b`: `x` is known; 3b. asked after `a`: `x` is told again. A cursor of another process, or of one long ago, is
known to nobody: then everything is told.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Known", "Snapshot"]


@dataclass(slots=True)
class Snapshot:
    """`marks` by key; `born` is when the run over everything that it came from began."""

    cursor: str
    born: float
    marks: dict[str, int]
    later: "tuple[str, dict[str, int], tuple[str, ...]] | None" = field(default=None)
    """The newer cursor, with what it changes and what it removes."""


class Known:
    """Of all partitions of a process, together at most `keys_max` keys; the one not asked for longest goes first."""

    def __init__(self, *, keys_max: int) -> None:
        self._keys_max = keys_max
        self._of: OrderedDict[int | None, Snapshot] = OrderedDict()

    @property
    def keys(self) -> int:
        """How many are held."""
        return sum(len(one.marks) for one in self._of.values())

    def begin(self, partition: int | None, cursor: str, born: float, marks: dict[str, int]) -> None:
        """What a run over everything found. More than fits is not kept, and will be told again as a whole."""
        self._of.pop(partition, None)
        if len(marks) > self._keys_max:
            return
        while self._of and self.keys + len(marks) > self._keys_max:
            self._of.popitem(last=False)
        self._of[partition] = Snapshot(cursor, born, marks)

    def at(self, partition: int | None, cursor: str, *, born_after: float) -> Mapping[str, int] | None:
        """What was told up to this cursor; None when that is not known, or is older than it should be."""
        held = self._of.get(partition)
        if held is None or held.born < born_after:
            return None
        if held.later is not None and held.later[0] == cursor:
            _, changed, removed = held.later
            held.marks.update(changed)
            for key in removed:
                held.marks.pop(key, None)
            held.cursor, held.later = cursor, None
        if held.cursor != cursor:
            return None
        self._of.move_to_end(partition)
        return held.marks

    def tell(self, partition: int | None, cursor: str, changed: dict[str, int], removed: Iterable[str]) -> None:
        """What is told now, up to a newer cursor."""
        self._of[partition].later = (cursor, changed, tuple(removed))
        while len(self._of) > 1 and self.keys > self._keys_max:
            self._of.popitem(last=False)

    def forget(self, partition: int | None) -> None:
        """Tell everything the next time."""
        self._of.pop(partition, None)
