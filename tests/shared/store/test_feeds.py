"""Feeds and the watchers that share them."""

import pytest

from shared.store import feeds, leases
from shared.store.pool import Pool

FEEDS = [feeds.Feed(f"local:cloud:{number}", "local", "cloud", number) for number in range(3)]
IDS = [feed.feed_id for feed in FEEDS]


@pytest.fixture(autouse=True)
async def rows(pool: Pool) -> None:
    await feeds.ensure(pool, FEEDS)
    await leases.ensure(pool, IDS)


async def look(pool: Pool, name: str, *, silence_s: float = 60.0, beat_s: float = 0.0) -> dict[str, bool]:
    seen = await feeds.watchers(pool, name, f"{name}-run", beat_s=beat_s, silence_s=silence_s)
    return {watcher.name: watcher.live for watcher in seen}


async def test_feeds_are_made_once_and_keep_what_they_know(pool: Pool) -> None:
    async with pool.transaction() as connection:
        await feeds.scanned(connection, [IDS[0]])
    await feeds.ensure(pool, [*FEEDS, feeds.Feed("drive:x", "google", "x", None)])
    assert await feeds.state(pool, IDS[0]) == feeds.FeedState(IDS[0], None, baselined=True, generation=1)
    assert await feeds.state(pool, IDS[1]) == feeds.FeedState(IDS[1], None, baselined=False, generation=0)
    assert await feeds.state(pool, "nothing") is None


async def test_a_root_was_scanned_before_when_any_of_its_feeds_was(pool: Pool) -> None:
    assert not await feeds.ever_scanned(pool, IDS)
    async with pool.transaction() as connection:
        await feeds.scanned(connection, [IDS[2]])
    assert await feeds.ever_scanned(pool, IDS)
    assert not await feeds.ever_scanned(pool, IDS[:2])


async def test_only_leases_that_nobody_holds_are_free(pool: Pool) -> None:
    await leases.claim(pool, [IDS[0]], "w1", ttl_s=30, limit=1)
    await leases.claim(pool, [IDS[1]], "w1", ttl_s=0, limit=1)
    free = await feeds.free(pool, IDS)
    assert list(free) == [IDS[1], IDS[2]]
    # One ended by silence, the other was never held.
    assert 0 <= (free[IDS[1]] or -1) < 60
    assert free[IDS[2]] is None


async def test_a_watcher_that_starts_again_ends_its_own_leases_and_no_others(pool: Pool) -> None:
    await leases.claim(pool, [IDS[0]], "w1", ttl_s=30, limit=1)
    await leases.claim(pool, [IDS[1]], "w2", ttl_s=30, limit=1)
    assert await feeds.disown(pool, IDS, "w1") == [IDS[0]]
    assert await leases.claim(pool, IDS, "w1", ttl_s=30, limit=9) == {IDS[0]: 2, IDS[2]: 1}
    assert await leases.renew(pool, "w1", {IDS[0]: 1}, ttl_s=30) == set()


async def test_watchers_see_each_other_until_one_says_goodbye(pool: Pool) -> None:
    await feeds.join_watchers(pool, "w1", "w1-run")
    await feeds.join_watchers(pool, "w2", "w2-run")
    assert await look(pool, "w1") == {"w1": True, "w2": True}
    await feeds.leave_watchers(pool, "w2", "another run")
    assert await look(pool, "w1") == {"w1": True, "w2": True}
    await feeds.leave_watchers(pool, "w2", "w2-run")
    assert await look(pool, "w1") == {"w1": True}


async def test_a_silent_watcher_is_known_but_does_not_count_as_live(pool: Pool) -> None:
    await feeds.join_watchers(pool, "w1", "w1-run")
    await feeds.join_watchers(pool, "w2", "w2-run")
    await pool.fetch("UPDATE watchers SET heartbeat_at = heartbeat_at - interval '20 s'")
    assert await look(pool, "w1", silence_s=15) == {"w1": False, "w2": False}
    assert await look(pool, "w1", silence_s=15) == {"w1": True, "w2": False}


async def test_a_look_says_that_we_live_but_not_oftener_than_needed(pool: Pool) -> None:
    await feeds.join_watchers(pool, "w1", "w1-run")
    before = (await pool.fetch("SELECT heartbeat_at FROM watchers"))[0][0]
    await look(pool, "w1", beat_s=60)
    assert (await pool.fetch("SELECT heartbeat_at FROM watchers"))[0][0] == before
    await look(pool, "w1", beat_s=0)
    assert (await pool.fetch("SELECT heartbeat_at FROM watchers"))[0][0] > before


async def test_the_newest_run_of_a_name_is_the_one_that_counts(pool: Pool) -> None:
    await feeds.join_watchers(pool, "w1", "old")
    await feeds.join_watchers(pool, "w1", "new")
    (watcher,) = await feeds.watchers(pool, "w1", "old", beat_s=0, silence_s=60)
    assert watcher.instance == "new"


async def test_watchers_silent_for_a_day_are_forgotten(pool: Pool) -> None:
    await feeds.join_watchers(pool, "old", "x")
    await pool.fetch("UPDATE watchers SET heartbeat_at = heartbeat_at - interval '2 days'")
    await feeds.join_watchers(pool, "w1", "w1-run")
    assert set(await look(pool, "w1")) == {"w1"}


async def test_secrets_are_told_of_feeds_that_were_given_one(pool: Pool) -> None:
    await pool.fetch("UPDATE feeds SET hook_secret = 'local:cloud:1~00' WHERE feed_id = $1", IDS[1])
    assert await feeds.hook_secrets(pool, IDS) == {IDS[1]: "local:cloud:1~00"}
