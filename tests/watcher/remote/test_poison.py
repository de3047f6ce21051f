"""Items that the database will not take are found, passed by and told; no other waits for them."""

from collections.abc import Collection

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.watching.model_drive import ModelDrive
from shared.store import devices
from shared.store.pool import Pool
from tests.watcher.remote.conftest import Following
from tests.watcher.rig import until
from watcher.remote.poison import poisoned


@given(st.integers(0, 60), st.sets(st.integers(0, 59), max_size=5))
async def test_those_at_fault_are_found_and_no_other_in_few_tries(count: int, bad: set[int]) -> None:
    items = [str(number) for number in range(count)]
    faulty = {str(number) for number in bad} & set(items)
    asked = 0

    async def tries(some: Collection[str]) -> str | None:
        nonlocal asked
        asked += 1
        return "not this" if faulty & set(some) else None

    assert await poisoned(items, tries) == dict.fromkeys(faulty, "not this")
    assert asked <= 1 + 2 * 6 * max(1, len(faulty))


async def test_of_items_that_are_refused_only_together_none_is_named() -> None:
    async def tries(some: Collection[str]) -> str | None:
        return "not both" if {"a", "b"} <= set(some) else None

    assert await poisoned(["a", "b", "c"], tries) == {}


@pytest.fixture
async def refusing(database_url: str) -> asyncpg.Connection:
    """Postgres takes no item whose path holds `bad`, and no job for such a path."""
    sql = await asyncpg.connect(database_url)
    await sql.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.path LIKE '%bad%' THEN RAISE EXCEPTION 'not this' USING ERRCODE = '22000'; END IF; RETURN NEW; END $$"
    )
    for table in ("items", "jobs"):
        await sql.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
    yield sql
    await sql.close()


def refused(following: Following) -> set[str]:
    return {one.path for told in following.told for one in told.refused if one.reason == "store"}


@pytest.mark.parametrize("keeps_log", [True, False])
async def test_a_page_with_items_that_are_refused_goes_on_without_them(
    pool: Pool, refusing: asyncpg.Connection, keeps_log: bool
) -> None:
    following = Following(pool, ModelDrive(log=keeps_log, page=100))
    drive = following.drive
    ids = {name: drive.put(f"Requests/truck-1/{name}.csv") for name in ("a", "bad-1", "b", "c", "bad-2", "d")}
    drive.put("Responses/truck-2/bad.pdf")
    await following.begin()
    try:
        good = [f"Requests/truck-1/{name}.csv" for name in "abcd"]

        async def made() -> bool:
            return await following.jobs() == good

        await until(made, "jobs for the others", deadline_s=20)
        if keeps_log:
            await following.settled()
            assert refused(following) >= {ids["bad-1"], ids["bad-2"]}
        drive.put("Requests/truck-1/e.csv")
        good.append("Requests/truck-1/e.csv")
        await until(made, "a job for what came after", deadline_s=20)
        # Once it can be taken, the next word of it is enough.
        await refusing.execute("DROP TRIGGER refuse ON items")
        await refusing.execute("DROP TRIGGER refuse ON jobs")
        drive.touch(ids["bad-1"])
        drive.touch(ids["bad-2"])
        good = sorted([*good, "Requests/truck-1/bad-1.csv", "Requests/truck-1/bad-2.csv"])
        await until(made, "jobs for those that were refused", deadline_s=20)
    finally:
        await following.kill()


async def test_a_file_that_waited_and_is_refused_lets_the_others_be_taken_up(
    pool: Pool, refusing: asyncpg.Connection
) -> None:
    await refusing.execute("DROP TRIGGER refuse ON items")
    following = Following(pool, ModelDrive(page=100))
    for name in ("a", "bad", "b"):
        following.drive.put(f"Requests/truck-9/{name}.csv")
    await following.begin()
    try:
        await following.settled()
        assert set((await following.states()).values()) == {"waiting"}
        await devices.ensure(pool, "truck-9", "truck")
        assert following.feed is not None
        following.feed.on_arrivals()

        async def made() -> bool:
            return await following.jobs() == ["Requests/truck-9/a.csv", "Requests/truck-9/b.csv"]

        await until(made, "jobs for the others", deadline_s=20)
        (row,) = await pool.fetch("SELECT state, retry_at IS NOT NULL AS later FROM items WHERE path LIKE '%bad%'")
        assert tuple(row) == ("waiting", True)
        assert len(refused(following)) == 1
    finally:
        await following.kill()
