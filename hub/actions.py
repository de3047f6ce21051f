"""What a session asks its endpoint to do. The session decides and never waits; the endpoint acts and never decides."""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from shared.protocol.close_codes import CloseCode
from shared.protocol.frames import HubFrame

__all__ = ["NOTHING", "Action", "Actions", "End", "Hold", "ReadLog", "RecordAck", "Say", "SendEvents"]


class SendEvents(NamedTuple):
    """Write these events, in this order, before anything else."""

    events: Sequence[tuple[int, bytes]]


class Say(NamedTuple):
    """Write a frame."""

    frame: HubFrame


class ReadLog(NamedTuple):
    """Read a page and hand it to `on_page`. One at a time; 0 rows asks for epoch, floor and head alone."""

    after: int
    max_rows: int
    max_bytes: int


class Hold(NamedTuple):
    """Call `on_hold_over` after the hold time: what is missing may be on its way by the bus."""


class RecordAck(NamedTuple):
    """Write this ack to the cursor, gathered with others."""

    seq: int


class End(NamedTuple):
    """Close the socket. What the device still acks is recorded until it is gone."""

    code: CloseCode
    reason: str


Action: TypeAlias = SendEvents | Say | ReadLog | Hold | RecordAck | End
Actions: TypeAlias = Sequence[Action]

NOTHING: Final[Actions] = ()
