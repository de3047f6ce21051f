"""A position in a device's log: `epoch:seq`.

Why an epoch beside the number: a log at seq 10 is restored from a copy that ended at 8, then two new events are
recorded as 9 and 10. A device that says "after 10" has seen the old 9 and 10, not the new ones. Restoring raises the
epoch, so its `1:10` is older than `2:10`, and the device is told to start over instead of silently missing two events.
"""

from typing import Final, NamedTuple

__all__ = ["EPOCH_MAX", "SEQ_MAX", "InvalidPosition", "Position", "parse_position"]

EPOCH_MAX: Final = 2**31 - 1
SEQ_MAX: Final = 2**53 - 1  # what a JSON number holds exactly everywhere


class InvalidPosition(ValueError):
    """A position that is not `epoch:seq` with two plain decimal numbers."""


class Position(NamedTuple):
    """Everything up to and including `seq` of `epoch` is behind the one who says it. Orders by epoch, then seq."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


def parse_position(text: str) -> Position:
    """Read `epoch:seq` (epoch from 1, seq from 0, ASCII digits, no sign, no blanks). Raises InvalidPosition."""
    epoch_text, colon, seq_text = text.partition(":")
    if not colon or not _is_plain_number(epoch_text) or not _is_plain_number(seq_text):
        raise InvalidPosition("position must be EPOCH:SEQ with two decimal numbers, for example 1:42")
    epoch, seq = int(epoch_text), int(seq_text)
    if not 1 <= epoch <= EPOCH_MAX or seq > SEQ_MAX:
        raise InvalidPosition(f"position out of range: epoch 1 to {EPOCH_MAX}, seq 0 to {SEQ_MAX}")
    return Position(epoch, seq)


def _is_plain_number(text: str) -> bool:
    return 1 <= len(text) <= 16 and text.isascii() and text.isdigit()
