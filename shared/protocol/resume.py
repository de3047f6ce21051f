"""Where a device goes on from the position it names: one table, for the socket and for REST.

| the position | the answer |
|---|---|
| of an older epoch | start over from the acked position of this epoch |
| below the floor | retention took what follows: start over from the floor |
| floor to head | go on |
| above the head, or of an epoch to come | the log may have lost its end: raise the device's epoch, then start over |

A position that is not `epoch:seq` never comes this far.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from shared.protocol.position import Position

__all__ = [
    "EPOCH_LEAD_MAX",
    "GoOn",
    "Implausible",
    "LogLossSuspected",
    "Resumption",
    "StartOver",
    "acked_position",
    "resume",
]

# A log restored from a copy lags by a few epochs. Believing any number would let a device spend all it has at once.
EPOCH_LEAD_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class GoOn:
    """Events with a seq above this one follow."""

    seq: int


@dataclass(frozen=True, slots=True)
class StartOver:
    """What lies between is gone: fetch the state, then go on from `position`."""

    position: Position
    reason: Literal["epoch", "retention"]


@dataclass(frozen=True, slots=True)
class LogLossSuspected:
    """The device knows more than the log does: raise its epoch above `claimed_epoch`, then judge again."""

    claimed_epoch: int


@dataclass(frozen=True, slots=True)
class Implausible:
    """No copy of this log can have given that position: refuse it like a malformed one."""


Resumption: TypeAlias = GoOn | StartOver | LogLossSuspected | Implausible


def resume(after: Position, *, epoch: int, floor: int, head: int, acked: int) -> Resumption:
    """Judge a position by one snapshot of the device's log, read from the primary."""
    if after.epoch > epoch + EPOCH_LEAD_MAX:
        return Implausible()
    if after.epoch > epoch or (after.epoch == epoch and after.seq > head):
        return LogLossSuspected(after.epoch)
    if after.epoch < epoch:
        return StartOver(acked_position(epoch=epoch, floor=floor, head=head, acked=acked), "epoch")
    if after.seq < floor:
        return StartOver(Position(epoch, floor), "retention")
    return GoOn(after.seq)


def acked_position(*, epoch: int, floor: int, head: int, acked: int) -> Position:
    """Where a device goes on that names no position, or one of another epoch: from what it acked, if it is there."""
    return Position(epoch, min(max(acked, floor), head))
