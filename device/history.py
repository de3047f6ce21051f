"""What became of an event before it is given now: finished in an earlier epoch, begun and not ended, or new. Pure.

Four witnesses are heard: the fingerprints of what was finished, the marks of bodies that began, the acks that the
server holds, and, when the position was lost, the head of the log at the first welcome: up to there an earlier run may
have been given anything.
"""

from collections.abc import Callable, Iterable

from device.actions import Delivery, Repeat, Skipped
from device.seen import Begun, InProgress, Seen, SeenEvent
from shared.protocol.position import Position

__all__ = ["History"]


class History:
    """`holds` says whether the server holds an ack of a position."""

    def __init__(
        self,
        seen: Iterable[SeenEvent],
        begun: Iterable[InProgress],
        *,
        at_most_once: bool,
        holds: Callable[[Position], bool],
    ) -> None:
        self._seen = Seen(seen)
        self._begun = Begun(begun)
        self._at_most_once = at_most_once
        self._holds = holds
        self._maybe_had: Position | None = None

    def lost_up_to(self, position: Position) -> None:
        """Up to here, events may have been given by a run that left no trace."""
        self._maybe_had = position

    def judge(self, delivery: Delivery) -> Delivery | Skipped | Repeat:
        """How the application is to be given this event."""
        position, fingerprint = delivery.position, delivery.fingerprint
        if self._seen.before(position.epoch, fingerprint):
            return Repeat(position, fingerprint)
        begun = delivery.redelivered or self._begun.has(position, fingerprint) or self._holds(position)
        if self._at_most_once and begun:
            return Skipped(position, delivery.event, fingerprint)
        maybe = self._maybe_had is not None and position <= self._maybe_had
        if (begun or maybe) and not delivery.redelivered:
            return Delivery(position, delivery.event, fingerprint, redelivered=True)
        return delivery

    def finished(self, delivery: Delivery) -> None:
        """Its body has ended, or it is not given."""
        self._seen.add(SeenEvent(delivery.position.epoch, delivery.fingerprint))
        self._begun.end(delivery.fingerprint)

    def given_back(self, delivery: Delivery) -> Delivery:
        """Its body began and did not end. Kept apart as well: a raised epoch empties the inbox, and the event comes
        again from the log."""
        self._begun.add(InProgress(delivery.position, delivery.fingerprint))
        return Delivery(delivery.position, delivery.event, delivery.fingerprint, redelivered=True)
