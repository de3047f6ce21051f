"""The root folder: listed for all feeds, opened again when it is another one, never made."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.cloud.errors import NotFound
from shared.cloud.threads import FileThreads
from shared.hash_slots import partition_of
from watcher.disk import Disk
from watcher.places import Refused
from watcher.tree import WatchedTree


class Opened:
    """A disk over a folder that the test fills."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused: list[Refused] = []
        self.threads = FileThreads(2)
        self.disk = Disk(root, WatchedTree(None), self.threads, on_refused=self.refused.append)

    async def listed(self) -> dict[int, list[str]]:
        self.disk.forget_listing()
        return (await self.disk.device_folders()).by_partition


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    made = Opened(tmp_path / "cloud")
    yield made
    await made.threads.close()
    made.disk.close()


async def test_a_root_that_is_not_there_is_a_problem_and_is_not_made(opened: Opened) -> None:
    with pytest.raises(NotFound):
        await opened.disk.device_folders()
    with pytest.raises(NotFound):
        await opened.disk.make_areas()
    assert opened.disk.problem is not None
    assert not opened.root.exists()
    with pytest.raises(OSError, match="cloud"):
        _ = opened.disk.root


async def test_the_areas_are_made_in_a_root_that_is_there(opened: Opened) -> None:
    opened.root.mkdir()
    await opened.disk.make_areas()
    await opened.disk.make_areas()
    assert await opened.listed() == {}
    assert opened.disk.problem is None


async def test_one_listing_serves_all_feeds_for_a_moment(opened: Opened) -> None:
    opened.root.mkdir()
    await opened.disk.make_areas()
    first = await opened.disk.device_folders()
    (opened.root / "Requests/truck-7").mkdir()
    assert await opened.disk.device_folders() is first
    assert await opened.listed() == {partition_of("truck-7"): ["Requests/truck-7"]}


async def test_a_listing_that_was_overtaken_by_a_notice_is_not_kept(opened: Opened) -> None:
    opened.root.mkdir()
    await opened.disk.make_areas()
    listed, noticed = threading.Event(), threading.Event()

    class Slow(WatchedTree):
        """Holds the listing's thread after the areas were read, as a busy machine does."""

        def watch(self, folder_fd: int, path: str) -> None:
            super().watch(folder_fd, path)
            if path == "Responses":
                listed.set()
                assert noticed.wait(10)

    disk = Disk(opened.root, Slow(None), opened.threads, on_refused=opened.refused.append)
    first = asyncio.create_task(disk.device_folders())
    await asyncio.to_thread(listed.wait, 10)
    (opened.root / "Requests" / "truck-7").mkdir()
    disk.forget_listing()
    noticed.set()
    assert (await first).by_partition == {}
    assert (await disk.device_folders()).by_partition == {partition_of("truck-7"): ["Requests/truck-7"]}
    disk.close()


async def test_what_should_not_lie_beside_the_devices_is_said(opened: Opened) -> None:
    opened.root.mkdir()
    await opened.disk.make_areas()
    (opened.root / "Requests/BAD").mkdir()
    await opened.listed()
    assert [(refused.path, refused.reason) for refused in opened.refused] == [("Requests/BAD", "device_id")]


async def test_another_folder_under_the_same_path_is_noticed(opened: Opened) -> None:
    opened.root.mkdir()
    await opened.disk.make_areas()
    (opened.root / "Requests/truck-7").mkdir()
    await opened.listed()
    opened.root.rename(opened.root.with_name("old"))
    opened.root.mkdir()
    with pytest.raises(NotFound):
        await opened.listed()
    await opened.disk.make_areas()
    (opened.root / "Requests/truck-8").mkdir()
    assert list((await opened.listed()).values()) == [["Requests/truck-8"]]
