"""Which events the application has had, by identity, for the one case where numbers do not say it.

Within an epoch `seq` tells a repeat from a new event, and two events may even share an id there. When an epoch is
raised the log goes on from what survived under numbers that may mean other events; then an event that was finished in
an earlier epoch is known by its fingerprint (source and id). The last 4,096 are kept: far more than can be finished and
not yet acked.

Likewise for bodies that have begun and not ended: usually one, but each raised epoch may leave another behind.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from shared.protocol.position import Position

__all__ = ["BEGUN_MAX", "SEEN_MAX", "Begun", "InProgress", "Seen", "SeenEvent", "fingerprint"]

SEEN_MAX: Final = 4096
BEGUN_MAX: Final = 16


class InProgress(NamedTuple):
    """An event whose body has begun."""

    position: Position
    fingerprint: str


class SeenEvent(NamedTuple):
    """A finished event and the epoch it was finished in."""

    epoch: int
    fingerprint: str


def fingerprint(event: Mapping[str, Any]) -> str:
    """The identity of a CloudEvent (source and id) in 16 hex digits, however long they are."""
    identity = f"{event.get('source')}\0{event.get('id')}"
    return blake2b(identity.encode(errors="surrogatepass"), digest_size=8).hexdigest()


class Seen:
    """The last finished events. A new one pushes out the oldest."""

    def __init__(self, events: Iterable[SeenEvent] = ()) -> None:
        self._epochs: OrderedDict[str, int] = OrderedDict()
        for event in events:
            self.add(event)

    def add(self, event: SeenEvent) -> None:
        """The application has finished this one."""
        self._epochs.pop(event.fingerprint, None)
        self._epochs[event.fingerprint] = event.epoch
        if len(self._epochs) > SEEN_MAX:
            self._epochs.popitem(last=False)

    def before(self, epoch: int, fingerprint: str) -> bool:
        """Whether this event was finished in an epoch before this one."""
        return self._epochs.get(fingerprint, epoch) < epoch

    def __iter__(self) -> Iterator[SeenEvent]:
        return (SeenEvent(epoch, fingerprint) for fingerprint, epoch in self._epochs.items())

    def __len__(self) -> int:
        return len(self._epochs)


class Begun:
    """Events whose bodies have begun and not ended."""

    def __init__(self, events: Iterable[InProgress] = ()) -> None:
        self._positions: OrderedDict[str, Position] = OrderedDict()
        for event in events:
            self.add(event)

    def add(self, event: InProgress) -> None:
        """This body begins."""
        self._positions.pop(event.fingerprint, None)
        self._positions[event.fingerprint] = event.position
        if len(self._positions) > BEGUN_MAX:
            self._positions.popitem(last=False)

    def end(self, fingerprint: str) -> None:
        """The body of this event has ended."""
        self._positions.pop(fingerprint, None)

    def has(self, position: Position, fingerprint: str) -> bool:
        """Whether the body of this event has begun before, under this number or under one of another epoch."""
        begun = self._positions.get(fingerprint)
        return begun is not None and (begun == position or begun.epoch != position.epoch)

    def __iter__(self) -> Iterator[InProgress]:
        return (InProgress(position, fingerprint) for fingerprint, position in self._positions.items())

    def __len__(self) -> int:
        return len(self._positions)
