"""Which bytes a Range header asks for, RFC 9110 section 14 [pure].

One range is served. What is malformed, in another unit or asks for several is ignored, as the RFC allows, and the
whole file is the answer; only a well-formed range with nothing in it is an error.
"""

import re
from dataclasses import dataclass
from typing import Final

_ONE_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """At least 1."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """The range begins beyond the end, or is the last 0 bytes."""


def part_of(header: str, size: int) -> Part | Unsatisfiable | None:
    """The part that is asked for; None for the whole."""
    found = _ONE_RANGE.fullmatch(header)
    if found is None:
        return None
    first, last = found.groups()
    if first:
        begin = int(first)
        end = int(last) if last else size - 1
        if last and end < begin:
            return None
        return Part(begin, min(end, size - 1)) if begin < size else Unsatisfiable()
    if not last:
        return None
    length = min(int(last), size)
    return Part(size - length, size - 1) if length else Unsatisfiable()
