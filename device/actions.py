"""What goes into and comes out of the session: pages, things for the application, and what the driver is asked to
do."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.protocol.close_codes import Return
from shared.protocol.frames import Ack, encode_frame
from shared.protocol.position import Position

__all__ = [
    "Action",
    "CloseLink",
    "Delivery",
    "EventsPage",
    "Gone",
    "Live",
    "MoveTo",
    "NoticeSaid",
    "PageEvent",
    "Ping",
    "PostAck",
    "Repeat",
    "ResetSaid",
    "Said",
    "SendAck",
    "Skipped",
    "Synced",
    "Taken",
    "TokenHeld",
    "ack_frame",
]


class PageEvent(NamedTuple):
    """One event of a REST page."""

    seq: int
    event: dict[str, Any]
    size: int


class EventsPage(NamedTuple):
    """One answer of the events endpoint; `position` is where the next one goes on."""

    position: Position
    head: int
    more: bool
    events: list[PageEvent]


# What the application is given, in order.


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event for the application. `redelivered`: an application of this device may have had it before."""

    position: Position
    event: dict[str, Any]
    fingerprint: str
    redelivered: bool


@dataclass(frozen=True, slots=True)
class Skipped:
    """An event that at-most-once delivery does not give again."""

    position: Position
    event: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """An event that was finished in an earlier epoch: to be recorded as finished, not to be given."""

    position: Position
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ResetSaid:
    """Events before `position` are gone; the application fetches the state by REST before it goes on."""

    position: Position
    reason: str


Taken = Delivery | Skipped | Repeat | ResetSaid


# What the driver is asked to do.


class SendAck(NamedTuple):
    """Send an ack of `seq` on this socket, once the position is durable."""

    link: int
    seq: int


class PostAck(NamedTuple):
    """Ack by REST, once the position is durable; answer with `on_ack_posted`."""

    position: Position


class Ping(NamedTuple):
    """Nothing was heard on this socket: ask."""

    link: int


class CloseLink(NamedTuple):
    """Close this socket; `abort` when there is nobody left to shake hands with."""

    link: int
    code: int
    reason: str
    abort: bool = False


class Live(NamedTuple):
    """This socket was welcomed and events flow; `jitter_s` spreads the fleet when it has to come back."""

    link: int
    jitter_s: float


class Gone(NamedTuple):
    """A socket has closed and no other one is live. `pending`: another one is on its way, and if it goes live this
    means nothing; if it does not, it is said again."""

    link: int
    how: Return
    code: int
    reason: str
    was_live: bool
    pending: bool = False


class MoveTo(NamedTuple):
    """Open a second socket there after that many seconds; this one goes on until the new one is welcomed."""

    link: int
    url: str
    after_s: float


class NoticeSaid(NamedTuple):
    """An ephemeral notice, for the application, not said before."""

    id: str
    data: dict[str, Any]


class TokenHeld(NamedTuple):
    """The hub took a renewed credential, which holds until then (RFC 3339)."""

    link: int
    expires_at: str


class Said(NamedTuple):
    """An `error` frame: something we sent was refused and the socket stays."""

    link: int
    code: str
    detail: str
    ref: str | None = None


class Synced(NamedTuple):
    """The results of a batch of operations that was sent on this socket as `ref`."""

    link: int
    ref: str
    results: list[dict[str, Any]]


Action = SendAck | PostAck | Ping | CloseLink | Live | Gone | MoveTo | NoticeSaid | TokenHeld | Said | Synced


def ack_frame(seq: int) -> bytes:
    """The text of an ack."""
    return encode_frame(Ack(seq))
