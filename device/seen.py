"""Which events the application has had, by identity, for the one case where numbers do not say it.

Within an epoch `seq` tells a repeat from a new event, and two events may even share an id there. When an epoch is
raised the log goes on from what survived under numbers that may mean other events; then an event that was finished in
an earlier epoch is known by its fingerprint (source and id). The last 4,096 are kept: far more than can be finished and
not yet acked.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

__all__ = ["SEEN_MAX", "Seen", "SeenEvent", "fingerprint"]

SEEN_MAX: Final = 4096


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
