"""Where the primary's log of changes stood after a write, so that a later read need not be older.

`<timeline>:<position>` as in `1:0/1A2B3C4`, or `primary`: the place is not known, only the primary is surely as new. A
client gets it with the answer to a write and gives it with its reads, as it is. A copy is new enough when it has
replayed that position on that timeline or a later one: a timeline that branched off before the position has lost the
write (the log's epoch tells of that), one that branched off after it holds it.
"""

import re
from typing import Final, NamedTuple

__all__ = ["PRIMARY_ONLY", "InvalidToken", "ReadToken", "lsn_of", "parse_token"]

_FORM: Final = re.compile(r"([1-9][0-9]{0,9}):([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})")


class InvalidToken(ValueError):
    """The text is no token that was given out."""

    def __init__(self) -> None:
        super().__init__("must be the Fleetwire-Wrote of an answer, unchanged")


class ReadToken(NamedTuple):
    """`lsn` as a number; timeline 0 stands for PRIMARY_ONLY."""

    timeline: int
    lsn: int

    def __str__(self) -> str:
        return f"{self.timeline}:{self.lsn >> 32:X}/{self.lsn & 0xFFFFFFFF:X}" if self.timeline else "primary"

    def is_reached_by(self, timeline: int, lsn: int) -> bool:
        """Whether a copy that has replayed so much holds the write."""
        return self.timeline > 0 and timeline >= self.timeline and lsn >= self.lsn


PRIMARY_ONLY: Final = ReadToken(0, 0)


def parse_token(text: str) -> ReadToken:
    """Raises InvalidToken."""
    if text == "primary":
        return PRIMARY_ONLY
    match = _FORM.fullmatch(text)
    if match is None or int(match[1]) >= 2**31:
        raise InvalidToken
    return ReadToken(int(match[1]), lsn_of(match[2]))


def lsn_of(text: str) -> int:
    """Postgres' form of a place in its log as a number: `16/B374D848`."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)
