"""The whole fleet, read in pieces that are bounded."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from shared.store import devices, fleet_view, hubs
from shared.store.fleet_view import WALK_MAX
from shared.store.hubs import HubRow
from shared.store.pool import Pool
from shared.store.queries import statements
from tests.shared.store.explained import explained

SQL = statements("fleet_view")

# More than a walk looks at, as one statement: two in three connected, a few behind.
MANY = """
INSERT INTO devices (device_id, class, epoch, head_seq)
SELECT 'truck-' || lpad(n::text, 5, '0'), CASE WHEN n % 2 = 0 THEN 'truck' ELSE 'office' END, 1, 3
FROM generate_series(1, 12000) n;
INSERT INTO cursors (device_id, epoch, acked_seq, hub)
SELECT device_id, 1, CASE WHEN device_id LIKE '%999' THEN 1 ELSE 3 END,
       CASE WHEN right(device_id, 1) < '6' THEN 'hub-1' END FROM devices;
ANALYZE devices; ANALYZE cursors;
"""


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def many(sql: asyncpg.Connection) -> None:
    await sql.execute(MANY)


async def test_pages_of_devices_go_on_to_the_end_whatever_is_asked(pool: Pool, many: None) -> None:
    seen: list[str] = []
    after, pages = "", 0
    while True:
        page = await fleet_view.device_page(pool, after=after, prefix="truck", limit=100, state="behind")
        seen += page.device_ids
        pages += 1
        if page.last is None:
            break
        after = page.last
    assert seen == [f"truck-{n:05}" for n in range(999, 12000, 1000)]
    assert pages == 1 + 12000 // WALK_MAX
    page = await fleet_view.device_page(pool, after="", prefix="truck-0000", limit=4)
    assert (page.device_ids, page.last) == ([f"truck-{n:05}" for n in (1, 2, 3, 4)], "truck-00004")
    page = await fleet_view.device_page(
        pool, after="", prefix="truck-0000", limit=50, device_class="truck", hub="hub-1", state="connected"
    )
    assert page.device_ids == ["truck-00002", "truck-00004"]
    assert (await fleet_view.device_page(pool, after="", prefix="truc", limit=1)).device_ids == ["truck-00001"]
    assert (await fleet_view.device_page(pool, after="", prefix="truck-99", limit=1)).device_ids == []
    assert (await fleet_view.device_page(pool, after="", prefix="w", limit=1)).last is None


async def test_a_page_of_devices_reads_no_more_than_a_walk_by_its_index(
    sql: asyncpg.Connection, pool: Pool, many: None
) -> None:
    for arguments in (["", "\x7f", 51, None, None, None], ["truck-05000", "\x7f", 51, None, "hub-9", None]):
        read = await explained(sql, SQL, "list", arguments, 6)
        assert "devices_pkey" in read.indexes
        assert read.rows <= 2 * WALK_MAX + 12_000  # the other side may be one scan of a small table


async def test_devices_that_are_looked_at_are_read_by_their_keys(
    sql: asyncpg.Connection, pool: Pool, many: None
) -> None:
    ids = [f"truck-{n:05}" for n in range(1, 51)]
    assert {row.device_id for row in await fleet_view.devices(pool, [*ids, "nobody"])} == set(ids)
    read = await explained(sql, SQL, "devices", [ids], 6)
    assert read.indexes == {"devices_pkey", "cursors_pkey"}
    assert await fleet_view.devices(pool, []) == []


async def test_the_census_counts_everybody(pool: Pool, many: None) -> None:
    found = await fleet_view.census(pool)
    assert (found.devices, found.connected, found.behind, found.behind_here) == (12000, 7200, 12, 0)
    assert (found.backlog, found.recorded, found.epoch) == (24, 36000, 1)


async def test_hubs_that_fell_silent_are_shown_for_an_hour(pool: Pool, sql: asyncpg.Connection) -> None:
    for name in ("hub-1", "hub-2", "hub-3"):
        await hubs.heartbeat(pool, HubRow(name, "run", "ws://h", 1, 10, draining=False))
    await sql.execute("UPDATE hubs SET heartbeat_at = clock_timestamp() - interval '2 minutes' WHERE name = 'hub-2'")
    await sql.execute("UPDATE hubs SET heartbeat_at = clock_timestamp() - interval '2 hours' WHERE name = 'hub-3'")
    first, second = await fleet_view.hubs(pool)
    assert (first.row.name, first.silent_s < 60) == ("hub-1", True)
    assert (second.row.name, 120 <= second.silent_s < 180) == ("hub-2", True)


async def test_feeds_are_gathered_by_owner_and_a_lease_that_is_over_owns_nothing(
    pool: Pool, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO feeds (feed_id, provider, root, scanned_at) "
        "SELECT 'local:' || n, 'local', '/cloud', clock_timestamp() - interval '1 second' * n "
        "FROM generate_series(1, 4) n"
    )
    await sql.execute(
        "INSERT INTO leases (name, owner, term, expires_at) SELECT 'local:' || n, 'watcher-' || n % 2, n, "
        "clock_timestamp() + interval '1 minute' * CASE WHEN n = 4 THEN -1 ELSE 1 END FROM generate_series(1, 4) n"
    )
    found = {one.owner: one for one in await fleet_view.feeds(pool)}
    assert {owner: one.feeds for owner, one in found.items()} == {"watcher-0": 1, "watcher-1": 2, None: 1}
    assert (found["watcher-1"].term_min, found["watcher-1"].term_max) == (1, 3)
    stale_s = found["watcher-1"].stale_s
    assert stale_s is not None
    assert 3 <= stale_s < 60


async def test_stage_times_are_of_jobs_that_ended_lately(pool: Pool, sql: asyncpg.Connection) -> None:
    assert (await fleet_view.stage_times(pool)).jobs == 0
    await devices.ensure(pool, "truck-7", "truck")
    await sql.execute(
        "INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, current_status, "
        "detected_at, created_at, started_at, finished_at) "
        "SELECT gen_random_uuid(), 'requests', 'table', 'truck-7', 'local', 'p', 'n', 1, 'v', 'dead', "
        "t, t + interval '10 ms', t + interval '30 ms', t + interval '130 ms' "
        "FROM (SELECT clock_timestamp() - interval '1 second' AS t FROM generate_series(1, 5)) moments"
    )
    times = await fleet_view.stage_times(pool)
    assert times.jobs == 5
    assert [round(value[1] or 0, 3) for value in (times.recorded, times.claimed, times.answered)] == [0.01, 0.02, 0.1]
    assert await fleet_view.dead_jobs(pool) == 5
