"""The ledger of what a feed holds."""

from uuid import uuid4

import pytest

from shared.store import devices, feeds, items
from shared.store.items import Facts, Item
from shared.store.pool import Pool

FEED = "local:cloud:0"
OTHER = "local:cloud:1"


@pytest.fixture(autouse=True)
async def rows(pool: Pool) -> None:
    await feeds.ensure(pool, [feeds.Feed(FEED, "local", "cloud", 0), feeds.Feed(OTHER, "local", "cloud", 1)])
    await devices.ensure(pool, "truck-7", "truck")


def item(path: str, *, state: items.ItemState = "announced", device_id: str = "truck-7", version: str = "v1") -> Item:
    area: items.Area = "request" if path.startswith("Requests") else "response"
    return Item(path, device_id, area, state, version, 7, 11, 5)


async def write(pool: Pool, *wanted: Item, feed: str = FEED) -> None:
    async with pool.transaction() as connection:
        await items.upsert(connection, [(feed, one) for one in wanted])


async def paths(pool: Pool, *, above: str = "", upto: str = "\U0010ffff", limit: int = 100) -> list[str]:
    return [row.item_id for row in await items.ledger(pool, FEED, above=above, upto=upto, limit=limit)]


async def test_a_range_of_the_ledger_comes_in_order_of_code_points(pool: Pool) -> None:
    names = ["Requests/a-b/x", "Requests/a/x", "Requests/a/é", "Requests/a0/x", "Requests/A/x", "Requests/a/😀"]
    await write(pool, *(item(name) for name in names))
    await write(pool, item("Requests/a/elsewhere"), feed=OTHER)
    assert await paths(pool) == sorted(names)
    assert await paths(pool, above="Requests/a/", upto="Requests/a/\U0010ffff") == [
        "Requests/a/x",
        "Requests/a/é",
        "Requests/a/😀",
    ]
    assert await paths(pool, above="Requests/a/x", limit=1) == ["Requests/a/é"]
    assert await paths(pool, upto="Requests/A/x") == ["Requests/A/x"]


async def test_the_last_write_of_a_path_stands(pool: Pool) -> None:
    await write(pool, item("Requests/truck-7/a"))
    await write(pool, item("Requests/truck-7/a", version="v2", state="baseline"))
    row = await items.one(pool, FEED, "Requests/truck-7/a")
    assert row is not None
    assert (row.content_version, row.state, row.inode, row.size, row.mtime_ns) == ("v2", "baseline", 11, 7, 5)
    async with pool.transaction() as connection:
        await items.remove(connection, [(FEED, "Requests/truck-7/a"), (FEED, "Requests/truck-7/none")])
    assert await items.one(pool, FEED, "Requests/truck-7/a") is None


async def test_facts_come_in_the_order_asked(pool: Pool) -> None:
    await write(pool, item("Requests/truck-7/a"))
    asked = [
        (FEED, "Requests/truck-8/b", "truck-8", None),
        (FEED, "Requests/truck-7/a", "truck-7", None),
        (OTHER, "Requests/truck-7/a", "truck-7", None),
        (FEED, "Responses/truck-7/f/x", "truck-7", "Responses/truck-7/f"),
    ]
    async with pool.transaction() as connection:
        found = await items.facts(connection, "local", asked)
    nothing = Facts(None, None, None, None, None, device_known=False, reserved=False)
    assert found == [
        nothing,
        Facts("v1", "announced", 11, 7, 5, device_known=True, reserved=False),
        nothing._replace(device_known=True),
        nothing._replace(device_known=True),
    ]


async def test_a_folder_is_reserved_by_a_job_of_the_same_store_or_by_the_ledger(pool: Pool) -> None:
    folders = [f"Responses/truck-7/{name}" for name in ("job", "external", "recorded", "other-store")]
    job_id = uuid4()
    await pool.fetch(
        "INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version) "
        "VALUES ($1, 'requests', 'x', 'truck-7', 'local', 'p', 'n', 1, 'v')",
        job_id,
    )
    for folder, store, job in (
        (folders[0], "local", job_id),
        (folders[1], "local", None),
    ):
        await pool.fetch(
            "INSERT INTO responses (response_id, device_id, job_id, store, folder) VALUES ($1, 'truck-7', $2, $3, $4)",
            uuid4(),
            job,
            store,
            folder,
        )
    await write(pool, item(folders[2], state="reserved"))
    assert await items.reserved_folders(pool, FEED, "local", folders) == {folders[0], folders[2]}
    assert await items.reserved_folders(pool, FEED, "s3", folders) == {folders[2]}
    async with pool.transaction() as connection:
        asked = [(FEED, f"{folder}/x", "truck-7", folder) for folder in folders]
        found = await items.facts(connection, "local", asked)
    assert [facts.reserved for facts in found] == [True, False, True, False]


async def test_what_waits_is_counted_and_found_once_its_device_exists(pool: Pool) -> None:
    await write(
        pool,
        item("Requests/truck-8/a", state="waiting", device_id="truck-8"),
        item("Requests/truck-8/b", state="waiting", device_id="truck-8"),
        item("Requests/truck-7/c"),
    )
    assert await items.waiting_devices(pool, 10) == [("truck-8", 2)]
    assert await items.waiting_count(pool, [FEED, OTHER]) == 2
    assert await items.feeds_with_arrivals(pool, [FEED, OTHER]) == []
    await devices.ensure(pool, "truck-8", "truck")
    assert await items.waiting_devices(pool, 10) == []
    assert await items.feeds_with_arrivals(pool, [FEED, OTHER]) == [FEED]
    assert await items.feeds_with_arrivals(pool, [OTHER]) == []
    async with pool.transaction() as connection:
        found = await items.arrivals(connection, FEED, 1)
    assert [arrival.item_id for arrival in found] == ["Requests/truck-8/a"]


async def test_external_responses_are_complete_from_the_start(pool: Pool) -> None:
    response = items.ExternalResponse(
        uuid4(), uuid4(), "truck-7", "Responses/truck-7", "Responses/truck-7/r.pdf", "r.pdf", 7, "f" * 64, "x/y", "e1"
    )
    async with pool.transaction() as connection:
        await items.record_responses(connection, "local", [response])
    (row,) = await pool.fetch("SELECT * FROM responses JOIN response_files USING (response_id)")
    assert (row["outcome"], row["event_id"], row["folder"], row["job_id"]) == ("ready", "e1", "Responses/truck-7", None)
    assert row["completed_at"] is not None
    assert (row["path"], row["sha256"], row["content_type"]) == ("Responses/truck-7/r.pdf", "f" * 64, "x/y")
