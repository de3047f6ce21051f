"""Keeping leases: in Postgres for real, with a Redis that answers what the test says."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from random import Random

import pytest

from shared import clock
from shared.bus.lease_lock import Held
from shared.store import feeds, leases
from shared.store.errors import StoreUnavailable
from shared.store.pool import Pool, open_pool
from shared.telemetry.metrics import REGISTRY
from watcher.leases import LeaseKeeper, LeaseTimes, Replaced
from watcher.ownership import Ownership

FEEDS = [f"local:cloud:{number}" for number in range(8)]


class Locks:
    """A Redis shared by several keepers; `away` and `taken` are the test's."""

    def __init__(self, owner: str, shared: dict[str, str]) -> None:
        self._owner = owner
        self.locks = shared
        self.away = False
        self.held: list[Sequence[str]] = []

    async def hold(self, names: Sequence[str]) -> Mapping[str, Held]:
        self.held.append(names)
        if self.away:
            return dict.fromkeys(names, Held.UNKNOWN)
        owners = {name: self.locks.setdefault(name, self._owner) for name in names}
        return {name: Held.MINE if owner == self._owner else Held.ANOTHERS for name, owner in owners.items()}

    async def release(self, names: Sequence[str]) -> None:
        for name in names:
            if not self.away and self.locks.get(name) == self._owner:
                del self.locks[name]


class Holders:
    """Who would work under the leases."""

    def __init__(self) -> None:
        self.terms: dict[str, int] = {}
        self.renewals = 0
        self.ended: list[tuple[str, str]] = []

    def on_gained(self, feed_id: str, term: int) -> None:
        self.terms[feed_id] = term

    def on_renewed(self) -> None:
        self.renewals += 1

    async def end(self, feed_ids: Collection[str], change: str, *, grace_s: float = 0.0) -> None:
        for feed_id in feed_ids:
            del self.terms[feed_id]
            self.ended.append((feed_id, change))


class Keeper:
    """One watcher's keeper with its surroundings."""

    def __init__(self, pool: Pool, name: str, shared: dict[str, str], *, instance: str | None = None) -> None:
        self.ownership = Ownership(name, FEEDS, trust_s=20.0)
        self.locks = Locks(name, shared)
        self.holders = Holders()
        self.keeper = LeaseKeeper(
            pool,
            self.locks,
            self.ownership,
            instance=instance or name,
            times=LeaseTimes(),
            rand=Random(1),
        )

    async def join(self) -> "Keeper":
        await self.keeper.join(self.holders)
        await self.keeper.scan()
        return self


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=4)
    await feeds.ensure(opened, [feeds.Feed(feed, "local", "cloud", n) for n, feed in enumerate(FEEDS)])
    yield opened
    await opened.close()


@pytest.fixture
def redis() -> dict[str, str]:
    return {}


async def expire(pool: Pool) -> None:
    await pool.fetch("UPDATE leases SET expires_at = '-infinity'")


async def remaining(pool: Pool) -> list[float]:
    return [holder.remaining_s for holder in await leases.holders(pool, FEEDS)]


async def test_alone_a_watcher_has_everything_after_its_first_look(pool: Pool, redis: dict[str, str]) -> None:
    one = await Keeper(pool, "w1", redis).join()
    assert one.holders.terms == dict.fromkeys(FEEDS, 1)
    assert set(redis) == set(FEEDS)


async def test_a_heartbeat_renews_all_in_both_places(pool: Pool, redis: dict[str, str]) -> None:
    one = await Keeper(pool, "w1", redis).join()
    await pool.fetch("UPDATE leases SET expires_at = clock_timestamp() + interval '5 s'")
    redis.clear()
    assert await one.keeper.beat()
    assert min(await remaining(pool)) > 25
    assert set(redis) == set(FEEDS)
    assert one.holders.renewals == 1


async def test_what_postgres_gave_to_another_is_stopped_at_the_next_heartbeat(
    pool: Pool, redis: dict[str, str]
) -> None:
    one = await Keeper(pool, "w1", redis).join()
    await expire(pool)
    await leases.claim(pool, FEEDS[:3], "w2", ttl_s=30, limit=9)
    await one.keeper.beat()
    assert one.holders.ended == [(feed, "lost") for feed in FEEDS[:3]]
    assert set(one.holders.terms) == set(FEEDS[3:])


async def test_when_redis_says_that_a_lock_is_anothers_the_feed_is_stopped_and_its_lease_given_back(
    pool: Pool, redis: dict[str, str]
) -> None:
    one = await Keeper(pool, "w1", redis).join()
    redis[FEEDS[0]] = "w2"
    await one.keeper.beat()
    assert one.holders.ended == [(FEEDS[0], "lost")]
    assert list(await feeds.free(pool, FEEDS)) == [FEEDS[0]]
    assert redis[FEEDS[0]] == "w2"


async def test_a_takeover_is_timed_from_the_last_sign_of_the_owner_that_was_lost(
    pool: Pool, redis: dict[str, str]
) -> None:
    await Keeper(pool, "w1", redis).join()
    counted = REGISTRY.get_sample_value("fleetwire_watcher_takeover_seconds_count") or 0.0
    summed = REGISTRY.get_sample_value("fleetwire_watcher_takeover_seconds_sum") or 0.0
    # Its process ended without a word: the last renewal was the whole lease of 30 s before its end, and that 2 s ago.
    await pool.fetch("UPDATE leases SET expires_at = clock_timestamp() - interval '2 s'")
    await pool.fetch("DELETE FROM watchers WHERE name = 'w1'")
    redis.clear()
    two = await Keeper(pool, "w2", redis).join()
    assert len(two.holders.terms) == len(FEEDS)
    assert REGISTRY.get_sample_value("fleetwire_watcher_takeover_seconds_count") == counted + len(FEEDS)
    took = (REGISTRY.get_sample_value("fleetwire_watcher_takeover_seconds_sum") or 0.0) - summed
    assert 32 * len(FEEDS) <= took < 62 * len(FEEDS)
    # What is given back is no takeover.
    await two.keeper.close()
    await Keeper(pool, "w3", redis).join()
    assert REGISTRY.get_sample_value("fleetwire_watcher_takeover_seconds_count") == counted + len(FEEDS)


async def test_a_feed_that_nobody_takes_is_seen_by_the_watchers_there_are(pool: Pool, redis: dict[str, str]) -> None:
    redis.update(dict.fromkeys(FEEDS, "a lock that nobody gives up"))
    one = await Keeper(pool, "w1", redis).join()
    await one.keeper.scan()
    seen = REGISTRY.get_sample_value("fleetwire_feed_unowned_seconds", {"store": "local"})
    assert seen is not None
    assert seen > 0
    redis.clear()
    await one.keeper.scan()
    await one.keeper.scan()
    assert REGISTRY.get_sample_value("fleetwire_feed_unowned_seconds", {"store": "local"}) == 0


async def test_when_redis_cannot_be_asked_the_watcher_goes_on_and_claims_by_postgres_alone(
    pool: Pool, redis: dict[str, str]
) -> None:
    one = Keeper(pool, "w1", redis)
    one.locks.away = True
    await one.join()
    assert set(one.holders.terms) == set(FEEDS)
    assert await one.keeper.beat()
    assert one.holders.ended == []


async def test_nothing_is_claimed_while_another_has_the_lock(pool: Pool, redis: dict[str, str]) -> None:
    redis[FEEDS[0]] = "w2"
    one = await Keeper(pool, "w1", redis).join()
    assert set(one.holders.terms) == set(FEEDS[1:])
    del redis[FEEDS[0]]
    await one.keeper.scan()
    assert set(one.holders.terms) == set(FEEDS)


async def test_the_locks_of_a_live_owner_are_not_tried_after_redis_was_flushed(
    pool: Pool, redis: dict[str, str]
) -> None:
    one = await Keeper(pool, "w1", redis).join()
    redis.clear()
    two = Keeper(pool, "w2", redis)
    await two.join()
    await two.keeper.scan()
    assert two.locks.held == []
    await one.keeper.beat()
    assert set(redis.values()) == {"w1"}


async def test_without_postgres_the_trust_runs_out_and_the_locks_are_left_to_expire(
    pool: Pool, redis: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await Keeper(pool, "w1", redis).join()
    now = clock.monotonic()
    await pool.close()
    assert not await one.keeper.beat()
    assert one.ownership.trusted(FEEDS[0], 1, now + 19)
    assert sorted(one.locks.held[-1]) == FEEDS
    monkeypatch.setattr(clock, "monotonic", lambda: now + 21)
    assert not await one.keeper.beat()
    assert not one.ownership.trusted(FEEDS[0], 1, clock.monotonic())
    assert one.locks.held[-1] == []
    assert one.holders.ended == []
    with pytest.raises(StoreUnavailable):
        await one.keeper.scan()


async def test_a_second_watcher_is_given_its_share_after_two_looks_and_a_leaver_is_followed_at_once(
    pool: Pool, redis: dict[str, str]
) -> None:
    one = await Keeper(pool, "w1", redis).join()
    two = await Keeper(pool, "w2", redis).join()
    assert two.holders.terms == {}
    await one.keeper.scan()
    assert one.holders.ended == []
    await one.keeper.scan()
    await one.keeper.given_away()
    given = [feed for feed, change in one.holders.ended if change == "given_away"]
    assert 0 < len(given) < 8
    await two.keeper.scan()
    assert two.holders.terms == dict.fromkeys(given, 2)
    await one.keeper.close()
    await two.keeper.scan()
    assert set(two.holders.terms) == set(FEEDS)
    assert set(redis.values()) == {"w2"}


async def test_the_work_of_an_older_term_cannot_give_up_a_newer_one(pool: Pool, redis: dict[str, str]) -> None:
    one = await Keeper(pool, "w1", redis).join()
    await one.keeper.give_up(FEEDS[0], 7)
    assert one.holders.ended == []
    await one.keeper.give_up(FEEDS[0], 1)
    assert one.holders.ended == [(FEEDS[0], "failed")]
    await one.keeper.scan()
    assert one.holders.terms[FEEDS[0]] == 2


async def test_an_older_run_of_the_same_name_steps_back(pool: Pool, redis: dict[str, str]) -> None:
    older = await Keeper(pool, "w1", redis, instance="older").join()
    newer = await Keeper(pool, "w1", redis, instance="newer").join()
    assert newer.holders.terms == dict.fromkeys(FEEDS, 2)
    with pytest.raises(Replaced, match="FLEETWIRE_WATCHER_NAME"):
        await older.keeper.scan()
    await older.keeper.close()
    assert await feeds.free(pool, FEEDS) == {}
