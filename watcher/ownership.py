"""Which feeds a watcher holds, may act for, should take and should give away [pure].

Nobody coordinates. All see the same leases and the same watchers, and share the feeds evenly: no two watchers differ by
more than one. Who holds too many gives some away; what is free goes to the watcher with room that rendezvous hashing
says. So a change of the watchers moves one share: one that joins is given what the others have too much of, and of one
that leaves only its own feeds move. The rules of trust, with the usual numbers (lease 30 s, heartbeat 10 s, trust 20
s):

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
        self._holders: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Ownership({self.name}: {len(self.held)} of {len(self.feeds)} feeds, {len(self.members)} watchers)"

    def on_members(self, live: Collection[str], known: Collection[str], holders: Mapping[str, str]) -> None:
        """What a scan found: watchers heard lately, all that have not said goodbye, and who holds which feed's lease.

        A change is acted upon when the next scan confirms it; a goodbye needs no confirmation.
        """
        seen = frozenset(live) | {self.name}
        gone = self.members - seen
        said_goodbye = seen <= self.members and not gone & frozenset(known)
        self._stable = seen == self.members or said_goodbye or self._scans == 0
        self.members = seen
        self._holders = holders
        self._scans += 1

    def to_claim(self) -> list[str]:
        """Free feeds that this watcher should take; whether they still are free is for Redis and Postgres to say."""
        if not self._stable:
            return []
        held = self._held_by()
        held[self.name] = len(self.held)
        each = len(self.feeds) // len(held)
        ours = []
        for feed in sorted(self.feeds - self._holders.keys() - self.held.keys()):
            with_room = [member for member, count in held.items() if count < each]
            taker = preferred_owner(feed, with_room or [member for member, count in held.items() if count == each])
            if taker is not None:
                held[taker] += 1
            if taker == self.name:
                ours.append(feed)
        return ours

    def to_give_away(self) -> list[str]:
        """Feeds above this watcher's share. They are marked; release them when their page is done."""
        if not self._stable:
            return []
        staying = [feed for feed, held in self.held.items() if not held.leaving]
        least_wanted = sorted(staying, key=lambda feed: (_weight(self.name, feed), feed))
        given = least_wanted[: max(0, len(staying) - self._share(len(staying)))]
        for feed in given:
            self.held[feed].leaving = True
        return given

    def _held_by(self) -> dict[str, int]:
        held = dict.fromkeys(self.members, 0)
        for feed, owner in self._holders.items():
            if owner in held and feed in self.feeds:
                held[owner] += 1
        return held

    def _share(self, staying: int) -> int:
        """How many this watcher may keep of those it holds: some may have one more than the others, by their names."""
        each, with_one_more = divmod(len(self.feeds), len(self.members))
        if staying <= each:
            return staying
        above = {member for member, count in self._held_by().items() if count > each} | {self.name}
        favoured = sorted(above, key=lambda member: (_weight(member, ""), member))[:with_one_more]
        return each + 1 if self.name in favoured else each

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
    """The watcher with the largest BLAKE2b-64 of `watcher|feed`; None when there are none."""
    return max(watchers, key=lambda watcher: (_weight(watcher, feed), watcher), default=None)


def _weight(watcher: str, feed: str) -> int:
    return int.from_bytes(blake2b(f"{watcher}|{feed}".encode(), digest_size=8).digest(), "big")
