"""What a response left in a store that failed is removed there, later, and nothing else is."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from shared.cloud.errors import StoreUnavailable
from shared.cloud.local_provider import LocalProvider
from shared.cloud.provider import Object
from shared.store import devices
from shared.store.pool import Pool
from worker.left_places import LeftPlaces

DEVICE = "truck-7"


class Failing(LocalProvider):
    """Down, when told so."""

    down = False

    async def list(self, folder: str) -> AsyncIterator[Object]:
        if self.down:
            raise StoreUnavailable("down")
        async for one in super().list(folder):
            yield one


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[Failing]:
    (tmp_path / "drive").mkdir()
    opened = Failing(tmp_path / "drive", tmp_path / "drive-tmp", name="drive")
    yield opened
    await opened.close()


async def left(pool: Pool, drive: LocalProvider, name: str, *, now_in: str, ended: bool = True) -> str:
    """A response that left its folder at Drive, with a file in it; two hours ago."""
    folder, response_id = f"Responses/{DEVICE}/{name}", uuid4()
    await drive.put_new(f"{folder}/part.jpg", b"a part")
    await devices.ensure(pool, DEVICE, "truck")
    await pool.fetch(
        "INSERT INTO responses (response_id, device_id, store, folder, outcome, completed_at)"
        " VALUES ($1, $2, $3, $4, $5, CASE WHEN $5::text IS NOT NULL THEN clock_timestamp() - interval '2 h' END)",
        response_id,
        DEVICE,
        now_in,
        folder,
        "ready" if ended else None,
    )
    await pool.fetch(
        "INSERT INTO left_places (store, folder, response_id, left_at)"
        " VALUES ('drive', $1, $2, clock_timestamp() - interval '2 h')",
        folder,
        response_id,
    )
    return f"{folder}/part.jpg"


async def test_what_was_left_is_removed_once_and_the_place_stays_known(pool: Pool, drive: Failing) -> None:
    path = await left(pool, drive, "load.1", now_in="local")
    places = LeftPlaces(pool, {"drive": drive})
    assert await places.sweep() == 1
    assert await drive.stat(path) is None
    assert await places.sweep() == 0
    (row,) = await pool.fetch("SELECT swept_at FROM left_places")
    assert row["swept_at"] is not None


async def test_nothing_is_removed_where_a_response_may_still_be_written_or_came_back_to(
    pool: Pool, drive: Failing
) -> None:
    kept = [
        await left(pool, drive, "running.1", now_in="local", ended=False),
        await left(pool, drive, "back.1", now_in="drive"),
    ]
    await drive.put_new(f"Responses/{DEVICE}/other/file.jpg", b"of somebody else")
    assert await LeftPlaces(pool, {"drive": drive}).sweep() == 0
    assert await LeftPlaces(pool, {"drive": drive}, older_than_s=4 * 3600).sweep() == 0
    for path in (*kept, f"Responses/{DEVICE}/other/file.jpg"):
        assert await drive.stat(path) is not None


async def test_a_store_that_is_down_is_tidied_when_it_is_up(pool: Pool, drive: Failing) -> None:
    path = await left(pool, drive, "load.1", now_in="local")
    drive.down = True
    places = LeftPlaces(pool, {"drive": drive})
    assert await places.sweep() == 0
    assert await LeftPlaces(pool, {}).sweep() == 0
    drive.down = False
    assert await places.sweep() == 1
    assert await drive.stat(path) is None
