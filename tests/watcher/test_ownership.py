"""The rules of leases: single ones, and all of them together in a world where anything may fail."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from watcher.ownership import Ownership

FEEDS = [f"local:cloud:{number}" for number in range(64)]
TTL, TRUST = 30.0, 20.0


def ownership(name: str = "w1") -> Ownership:
    return Ownership(name, FEEDS, trust_s=TRUST)


def test_alone_a_watcher_wants_everything_at_once() -> None:
    one = ownership()
    one.on_members(["w1"], ["w1"], {})
    assert one.to_claim() == sorted(FEEDS)


def test_trust_runs_from_the_start_of_the_renewal_not_from_its_answer() -> None:
    one = ownership()
    one.on_claimed({FEEDS[0]: 5}, started=100.0)
    one.on_renewed({FEEDS[0]: 5}, {FEEDS[0]}, started=110.0)
    assert one.trusted(FEEDS[0], 5, 129.9)
    assert not one.trusted(FEEDS[0], 5, 130.0)


def test_trust_that_ran_out_comes_back_with_a_renewal_under_the_same_term() -> None:
    one = ownership()
    one.on_claimed({FEEDS[0]: 5}, started=0.0)
    assert not one.trusted(FEEDS[0], 5, 25.0)
    assert one.on_renewed({FEEDS[0]: 5}, {FEEDS[0]}, started=25.0) == []
    assert one.trusted(FEEDS[0], 5, 44.0)


def test_a_renewal_that_postgres_does_not_grant_ends_the_ownership() -> None:
    one = ownership()
    one.on_claimed({FEEDS[0]: 5, FEEDS[1]: 6}, started=0.0)
    assert one.on_renewed({FEEDS[0]: 5, FEEDS[1]: 6}, {FEEDS[1]}, started=1.0) == [FEEDS[0]]
    assert not one.holds(FEEDS[0], 5)


def test_the_answer_to_a_renewal_of_an_older_term_changes_nothing() -> None:
    one = ownership()
    one.on_claimed({FEEDS[0]: 6}, started=10.0)
    assert one.on_renewed({FEEDS[0]: 5}, set(), started=9.0) == []
    assert one.holds(FEEDS[0], 6)
    one.drop(FEEDS[0], 5)
    assert not one.on_taken(FEEDS[0], 5)
    assert one.holds(FEEDS[0], 6)


def test_a_late_answer_does_not_shorten_the_trust() -> None:
    one = ownership()
    one.on_claimed({FEEDS[0]: 5}, started=0.0)
    one.on_renewed({FEEDS[0]: 5}, {FEEDS[0]}, started=10.0)
    one.on_renewed({FEEDS[0]: 5}, {FEEDS[0]}, started=3.0)
    assert one.trusted(FEEDS[0], 5, 29.0)


def test_a_new_watcher_is_given_its_share_only_when_two_scans_agree() -> None:
    one = ownership()
    one.on_members(["w1"], ["w1"], {})
    one.on_claimed(dict.fromkeys(FEEDS, 1), started=0.0)
    one.on_members(["w1", "w2"], ["w1", "w2"], dict.fromkeys(FEEDS, "w1"))
    assert one.to_give_away() == []
    one.on_members(["w1", "w2"], ["w1", "w2"], dict.fromkeys(FEEDS, "w1"))
    given = one.to_give_away()
    assert len(given) == 32
    assert not any(one.trusted(feed, 1, 1.0) for feed in given)
    assert one.to_give_away() == []


def test_a_watcher_that_is_silent_is_missed_only_when_two_scans_agree() -> None:
    one = ownership()
    one.on_members(["w1", "w2"], ["w1", "w2"], {})
    one.on_members(["w1"], ["w1", "w2"], {})
    assert one.to_claim() == []
    one.on_members(["w1"], ["w1", "w2"], {})
    assert one.to_claim() == sorted(FEEDS)


def test_a_watcher_that_says_goodbye_is_believed_at_once() -> None:
    one = ownership()
    one.on_members(["w1", "w2"], ["w1", "w2"], {})
    one.on_members(["w1"], ["w1"], {})
    assert one.to_claim() == sorted(FEEDS)


def test_what_another_holds_is_not_wanted() -> None:
    one = ownership()
    one.on_members(["w1", "w2"], ["w1", "w2"], dict.fromkeys(FEEDS[:32], "w2"))
    assert one.to_claim() == sorted(FEEDS[32:])


def test_feeds_of_a_watcher_that_nobody_hears_are_left_until_their_leases_are_over() -> None:
    one = ownership()
    for _ in range(2):
        one.on_members(["w1"], ["w1", "w2"], dict.fromkeys(FEEDS[:10], "w2"))
    assert one.to_claim() == sorted(FEEDS[10:])


class Fleet:
    """Watchers without faults, and the leases they see."""

    def __init__(self, feeds: list[str]) -> None:
        self.feeds = feeds
        self.owned: dict[str, Ownership] = {}
        self.holders: dict[str, str] = {}

    def change(self, *, joining: Iterable[str] = (), leaving: Iterable[str] = ()) -> int:
        """Until nothing moves any more; how many feeds have another holder, or got their first."""
        before = dict(self.holders)
        for name in joining:
            self.owned[name] = Ownership(name, self.feeds, trust_s=TRUST)
        for name in leaving:
            del self.owned[name]
            self.holders = {feed: owner for feed, owner in self.holders.items() if owner != name}
        for _ in range(8):
            for name, one in self.owned.items():
                one.on_members(list(self.owned), list(self.owned), dict(self.holders))
                for feed in one.to_give_away():
                    del self.holders[feed]
                    one.drop(feed, 1)
                for feed in one.to_claim():
                    self.holders[feed] = name
                    one.on_claimed({feed: 1}, started=0.0)
        assert self.holders.keys() == set(self.feeds), "every feed has a holder"
        return sum(before.get(feed) not in (None, owner) for feed, owner in self.holders.items())


@given(
    st.integers(1, 70),
    st.lists(st.tuples(st.booleans(), st.text("abcdefgh", min_size=1, max_size=3)), min_size=1, max_size=12),
)
def test_a_change_of_the_watchers_moves_a_share_of_the_feeds_at_most(
    count: int, changes: list[tuple[bool, str]]
) -> None:
    fleet = Fleet([f"feed:{number}" for number in range(count)])
    fleet.change(joining=["first"])
    for joins, name in changes:
        watchers = len(fleet.owned)
        if joins and name not in fleet.owned:
            moved = fleet.change(joining=[name])
        elif not joins and name in fleet.owned:
            moved = fleet.change(leaving=[name])
        else:
            continue
        assert moved <= -(-count // max(watchers, len(fleet.owned))) + 1
        held = Counter(fleet.holders.values())
        assert max(held.values()) <= -(-count // len(fleet.owned))


@dataclass
class Lease:
    owner: str | None = None
    term: int = 0
    expires_at: float = float("-inf")


@dataclass
class Lock:
    owner: str | None = None
    expires_at: float = float("-inf")


@dataclass
class Host:
    """One watcher process: it may sleep, and may be cut off from either server."""

    owned: Ownership
    sleeping: bool = False
    postgres: bool = True
    redis: bool = True
    last_seen: float = 0.0
    effects: list[tuple[float, int]] = field(default_factory=list)


class World(RuleBasedStateMachine):
    """Three watchers, one feed set, a Postgres and a Redis made of dictionaries, and every fault there is.

    What must hold however it goes: terms rise, an effect is committed only under the current term, and two watchers
    never trust themselves for the same feed at the same time as long as their clocks run alike.
    """

    feeds = ("f1", "f2", "f3")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.leases = {feed: Lease() for feed in self.feeds}
        self.locks = {feed: Lock() for feed in self.feeds}
        self.hosts = {name: Host(Ownership(name, self.feeds, trust_s=TRUST)) for name in ("w1", "w2", "w3")}
        self.effects: dict[str, list[int]] = {feed: [] for feed in self.feeds}

    awake = st.sampled_from(["w1", "w2", "w3"])

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0, 19.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=awake, what=st.sampled_from(["sleeping", "postgres", "redis"]))
    def change(self, name: str, what: str) -> None:
        host = self.hosts[name]
        setattr(host, what, not getattr(host, what))

    @rule()
    def flush_redis(self) -> None:
        for lock in self.locks.values():
            lock.owner = None

    @rule(name=awake)
    def scan(self, name: str) -> None:
        host = self.hosts[name]
        if host.sleeping or not host.postgres:
            return
        host.last_seen = self.now
        live = [other for other, it in self.hosts.items() if self.now - it.last_seen <= 15.0]
        holders = {
            feed: lease.owner
            for feed, lease in self.leases.items()
            if lease.owner is not None and lease.expires_at > self.now
        }
        host.owned.on_members(live, list(self.hosts), holders)
        for feed in host.owned.to_give_away():
            self.release(host, feed)
        wanted = [feed for feed in host.owned.to_claim() if self.leases[feed].expires_at <= self.now]
        for feed in wanted:
            if host.redis and not self.hold(feed, name):
                continue
            lease = self.leases[feed]
            lease.owner, lease.term, lease.expires_at = name, lease.term + 1, self.now + TTL
            host.owned.on_claimed({feed: lease.term}, started=self.now)

    @rule(name=awake)
    def beat(self, name: str) -> None:
        host = self.hosts[name]
        if host.sleeping:
            return
        asked = host.owned.terms()
        others = [
            feed for feed in asked if host.redis and host.owned.believed(feed, self.now) and not self.hold(feed, name)
        ]
        if host.postgres:
            renewed = {
                feed
                for feed, term in asked.items()
                if (self.leases[feed].owner, self.leases[feed].term) == (name, term)
            }
            for feed in renewed:
                self.leases[feed].expires_at = self.now + TTL
            host.owned.on_renewed(asked, renewed, started=self.now)
        for feed in others:
            if host.owned.on_taken(feed, asked[feed]) and host.postgres:
                self.end_lease(name, feed, asked[feed])

    @rule(name=awake, feed=st.sampled_from(feeds))
    def record_a_page(self, name: str, feed: str) -> None:
        host = self.hosts[name]
        held = host.owned.held.get(feed)
        if host.sleeping or held is None or not host.owned.trusted(feed, held.term, self.now) or not host.postgres:
            return
        if self.leases[feed].term == held.term:
            self.effects[feed].append(held.term)

    @rule(name=awake)
    @precondition(lambda self: True)
    def restart(self, name: str) -> None:
        """kill -9 and a new process of the same name, which ends what the old one left."""
        host = self.hosts[name]
        if not host.postgres:
            return
        self.hosts[name] = Host(Ownership(name, self.feeds, trust_s=TRUST), redis=host.redis, last_seen=self.now)
        for lease in self.leases.values():
            if lease.owner == name:
                lease.owner, lease.expires_at = None, float("-inf")

    def hold(self, feed: str, name: str) -> bool:
        lock = self.locks[feed]
        if lock.owner not in (None, name) and lock.expires_at > self.now:
            return False
        lock.owner, lock.expires_at = name, self.now + TTL
        return True

    def release(self, host: Host, feed: str) -> None:
        term = host.owned.held[feed].term
        if host.postgres:
            self.end_lease(host.owned.name, feed, term)
        if host.redis and self.locks[feed].owner == host.owned.name:
            self.locks[feed].owner = None
        host.owned.drop(feed, term)

    def end_lease(self, name: str, feed: str, term: int) -> None:
        lease = self.leases[feed]
        if (lease.owner, lease.term) == (name, term):
            lease.owner, lease.expires_at = None, float("-inf")

    @invariant()
    def effects_follow_the_terms(self) -> None:
        for terms in self.effects.values():
            assert terms == sorted(terms)

    @invariant()
    def nobody_is_trusted_twice(self) -> None:
        for feed in self.feeds:
            trusting = [
                name
                for name, host in self.hosts.items()
                if (held := host.owned.held.get(feed)) is not None and host.owned.trusted(feed, held.term, self.now)
            ]
            assert len(trusting) <= 1, f"{feed} is trusted by {trusting}"

    @invariant()
    def whoever_is_trusted_has_the_lease(self) -> None:
        for name, host in self.hosts.items():
            for feed, held in host.owned.held.items():
                if host.owned.trusted(feed, held.term, self.now):
                    assert (self.leases[feed].owner, self.leases[feed].term) == (name, held.term)

    def teardown(self) -> None:
        """When the faults end, every feed has an owner within the lease's time, two scans and the locks' time."""
        for host in self.hosts.values():
            host.sleeping, host.postgres, host.redis = False, True, True
        for _ in range(2 * 35):
            self.now += 1.0
            for name in self.hosts:
                self.scan(name)
                if int(self.now) % 10 == 0:
                    self.beat(name)
        for feed in self.feeds:
            holding = [name for name, host in self.hosts.items() if feed in host.owned.held]
            assert len(holding) == 1, "each feed has one holder"
        assert all(len(host.owned.held) == 1 for host in self.hosts.values()), "and each watcher its share"


World.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestWorld = World.TestCase
