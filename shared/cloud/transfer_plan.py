"""How content is cut into parts, what of it is still to be brought, and when a part is tried again [pure].

The cut follows from the provider and the size alone, so that whoever goes on after a crash cuts as the one before did:
a provider that numbers its parts finds each in its place. What the provider says it has is believed only as far as it
is of use: what makes up whole parts where they may come in any order, the unbroken beginning where they may not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.backoff import full_jitter
from shared.cloud.errors import BadPath
from shared.cloud.provider import Capabilities, Part

if TYPE_CHECKING:
    from random import Random

__all__ = ["PARTS_MAX", "PART_BYTES", "Patience", "TooLarge", "TransferPlan", "part_size"]

PART_BYTES: Final = 10 * 1024 * 1024
PARTS_MAX: Final = 10_000


class TooLarge(BadPath):
    """The provider takes no content of this size."""


@dataclass(frozen=True, slots=True)
class Patience:
    """For one part, beyond what the client does for one request: seconds and tries; the first try counts."""

    tries: int = 8
    total_s: float = 600.0
    base_s: float = 0.5
    cap_s: float = 30.0

    def wait_s(self, *, made: int, spent_s: float, rand: "Random", retry_after_s: float | None = None) -> float | None:
        """How long to wait after `made` tries; None: give up. Being told to come back later is no failed try."""
        wait_s = full_jitter(made, rand, base=self.base_s, cap=self.cap_s)
        if retry_after_s is not None:
            wait_s = retry_after_s + min(wait_s, 1.0)
        elif made >= self.tries:
            return None
        return wait_s if spent_s + wait_s <= self.total_s else None


def part_size(capabilities: Capabilities, size: int, *, wanted: int = PART_BYTES) -> int:
    """Bytes of every part but the last: 10 MiB, or what keeps the number of parts within bounds. Raises TooLarge."""
    multiple = max(1, capabilities.part_multiple)
    wanted = max(wanted, -(-size // PARTS_MAX), capabilities.part_min)
    rounded = max(wanted // multiple, 1) * multiple
    if rounded < max(-(-size // PARTS_MAX), capabilities.part_min):
        rounded += multiple
    rounded = min(rounded, capabilities.part_max // multiple * multiple)
    if rounded < max(1, capabilities.part_min) or rounded * PARTS_MAX < size:
        raise TooLarge(f"{size} bytes are more than {PARTS_MAX} parts of at most {capabilities.part_max} bytes")
    return rounded


class TransferPlan:
    """The parts of one upload. `had` is what the provider has of it already."""

    def __init__(self, size: int, part: int, *, in_order: bool, had: Sequence[Part] = ()) -> None:
        self.size = size
        self.part = part
        self.in_order = in_order
        self._done: dict[int, list[Part]] = {}
        self.beginning = 0
        """In order: the unbroken beginning that the provider has."""
        if in_order:
            self.has_until(unbroken(had))
        else:
            for start, end in self.cuts():
                if made_up := _made_up(start, end, had):
                    self._done[start] = made_up

    def __repr__(self) -> str:
        return f"TransferPlan({self.size} bytes by {self.part}, {self.brought} brought)"

    def cuts(self) -> Iterator[tuple[int, int]]:
        """All parts, start and end; of nothing, one that is empty."""
        for start in range(0, max(self.size, 1), self.part):
            yield start, min(start + self.part, self.size)

    def missing(self, start: int, end: int) -> tuple[int, int] | None:
        """What is to be brought of a part of the cut; None when the provider has it."""
        if self.in_order:
            return (max(start, self.beginning), end) if self.beginning < end or self.size == 0 else None
        return None if start in self._done else (start, end)

    def has(self, part: Part) -> None:
        """The provider took it."""
        if self.in_order:
            self.beginning = max(self.beginning, part.end)
        else:
            self._done[part.start] = [part]

    def has_until(self, end: int) -> None:
        """In order: the provider says what it has."""
        self.beginning = min(max(end, 0), self.size)

    @property
    def brought(self) -> int:
        """Bytes that the provider has."""
        return self.beginning if self.in_order else sum(parts[-1].end - start for start, parts in self._done.items())

    def parts(self) -> list[Part]:
        """What `finish` is told, in order."""
        if self.in_order:
            return [Part(0, self.beginning)]
        return [part for start in sorted(self._done) for part in self._done[start]]


def _made_up(start: int, end: int, had: Sequence[Part]) -> list[Part]:
    """The fewest of the parts that together are these bytes and no others; none when they do not make them up."""
    inside = [part for part in had if start <= part.start < part.end <= end]
    found: list[Part] = []
    at = start
    while at < end:
        longest = max((part for part in inside if part.start == at), key=lambda part: part.end, default=None)
        if longest is None:
            return []
        found.append(longest)
        at = longest.end
    return found


def unbroken(parts: Sequence[Part]) -> int:
    """Where the beginning that is there without a gap ends."""
    end = 0
    for part in sorted(parts, key=lambda part: part.start):
        if part.start > end:
            break
        end = max(end, part.end)
    return end
