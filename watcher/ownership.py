"""Which feeds a watcher holds, may act for, should take and should give away [pure].

Assignment is rendezvous hashing over the watchers that live, so nobody coordinates: a watcher that joins only takes
feeds, one that leaves only gives its own away. The rules of trust, with the usual numbers (lease 30 s, heartbeat 10
s, trust 20 s):

    renewal begins at t, Postgres sets the lease to end at (some moment after t) + 30
    the owner trusts itself until t + 20, by its own clock, which counts suspend

The anchor is the *start* of the renewal, because the answer may be late: counted from the answer, a slow reply would
stretch the trust beyond the lease. The 10 s between the two are for clocks that do not run alike and for work under
way. Redis may end the trust at once (the lock is another's) and never prolongs it; when it cannot be asked, Postgres
alone decides.

None of this protects the data. The term does, in the transaction; trust only spares rivals each other's work.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(slots=True)
class Held:
    """A lease under one term. While `leaving`, nothing new is begun for the feed."""

    term: int
    trusted_until: float
    leaving: bool = False


class Ownership:
    """One watcher's view. Times are `now`, or the start of the call whose answer came, on the monotonic clock."""

    def __init__(self, name: str, feeds: Iterable[str], *, trust_s: float) -> None:
        self.name = name
        self.feeds = frozenset(feeds)
        self.held: dict[str, Held] = {}
        self.members: frozenset[str] = frozenset()
        self._trust_s = trust_s
        self._stable = False
        self._scans = 0

    def __repr__(self) -> str:
        return f"Ownership({self.name}: {len(self.held)} of {len(self.feeds)} feeds, {len(self.members)} watchers)"

    def on_members(self, live: Collection[str], known: Collection[str]) -> None:
        """What a scan of the membership found: watchers heard lately, and all that have not said goodbye.

        A change is acted upon when the next scan confirms it; a goodbye needs no confirmation.
        """
        seen = frozenset(live) | {self.name}
        gone = self.members - seen
        said_goodbye = seen <= self.members and not gone & frozenset(known)
        self._stable = seen == self.members or said_goodbye or self._scans == 0
        self.members = seen
        self._scans += 1

    def preferred(self, feed: str) -> bool:
        """Whether this watcher should have the feed."""
        return preferred_owner(feed, self.members) == self.name

    def to_claim(self) -> list[str]:
        """Feeds that this watcher should have and has not; whether they are free is for Redis and Postgres to say."""
        if not self._stable:
            return []
        return sorted(feed for feed in self.feeds if feed not in self.held and self.preferred(feed))

    def to_give_away(self) -> list[str]:
        """Feeds held that another live watcher should have. They are marked; release them when their page is done."""
        if not self._stable:
            return []
        given = [feed for feed, held in self.held.items() if not held.leaving and not self.preferred(feed)]
        for feed in given:
            self.held[feed].leaving = True
        return given

    def on_claimed(self, terms: Mapping[str, int], started: float) -> None:
        """Postgres gave these leases."""
        for feed, term in terms.items():
            self.held[feed] = Held(term, started + self._trust_s)

    def on_renewed(self, asked: Mapping[str, int], renewed: Collection[str], started: float) -> list[str]:
        """Postgres answered a renewal. Returns what turned out to be lost."""
        lost = []
        for feed, term in asked.items():
            held = self.held.get(feed)
            if held is None or held.term != term:
                continue
            if feed in renewed:
                held.trusted_until = max(held.trusted_until, started + self._trust_s)
            else:
                lost.append(feed)
                del self.held[feed]
        return lost

    def on_taken(self, feed: str, term: int) -> bool:
        """Redis says that another has the lock. Returns whether the feed was held under this term."""
        held = self.held.get(feed)
        if held is None or held.term != term:
            return False
        del self.held[feed]
        return True

    def drop(self, feed: str, term: int) -> None:
        """The feed was released, or Postgres refused a page of this term."""
        held = self.held.get(feed)
        if held is not None and held.term == term:
            del self.held[feed]

    def holds(self, feed: str, term: int) -> bool:
        """Whether the feed is held under this term, trusted or not."""
        held = self.held.get(feed)
        return held is not None and held.term == term

    def believed(self, feed: str, now: float) -> bool:
        """Whether the lease of a feed may be taken to run."""
        held = self.held.get(feed)
        return held is not None and now < held.trusted_until

    def trusted(self, feed: str, term: int, now: float) -> bool:
        """Whether work may begin for the feed under this term."""
        held = self.held.get(feed)
        return held is not None and held.term == term and not held.leaving and now < held.trusted_until

    def terms(self) -> dict[str, int]:
        """All leases held, for a renewal."""
        return {feed: held.term for feed, held in self.held.items()}


def preferred_owner(feed: str, watchers: Collection[str]) -> str | None:
    """The watcher with the largest BLAKE2b-64 of `watcher|feed`."""
    return max(watchers, key=lambda watcher: (_weight(watcher, feed), watcher), default=None)


def _weight(watcher: str, feed: str) -> int:
    return int.from_bytes(blake2b(f"{watcher}|{feed}".encode(), digest_size=8).digest(), "big")
