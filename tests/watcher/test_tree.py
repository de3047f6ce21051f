"""Watched folders: what the kernel says becomes notices about paths."""

import asyncio
import os
from collections import deque
from pathlib import Path

import pytest

from watcher import inotify
from watcher.inotify import Event, Inotify
from watcher.pacing import Notice
from watcher.tree import WatchedTree


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.notices: list[tuple[str, Notice]] = []
        self.folders: list[str] = []
        self.lost: list[str] = []

    def on_notice(self, path: str, what: Notice) -> None:
        self.notices.append((path, what))

    def on_folder(self, path: str) -> None:
        self.folders.append(path)

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)


class Queue:
    """A source whose events the test writes; a pipe stands for the kernel's descriptor."""

    def __init__(self) -> None:
        self.fd, self._other = os.pipe()
        self.events: deque[list[Event]] = deque()
        self.numbers: dict[int, int] = {}
        self.removed: list[int] = []
        self.full = False

    def add(self, folder_fd: int) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return self.numbers.setdefault(os.fstat(folder_fd).st_ino, len(self.numbers) + 1)

    def remove(self, watch: int) -> None:
        self.removed.append(watch)

    def read(self) -> list[Event]:
        return self.events.popleft() if self.events else []

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._other)


class Watched:
    """A tree over a queue, and folders to watch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.queue = Queue()
        self.told = Told()
        self.tree = WatchedTree(self.queue)
        self.tree.start(self.told)

    def watch(self, path: str) -> int:
        folder = self._folder / path
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY)
        self.tree.watch(fd, path)
        os.close(fd)
        return self.queue.numbers[folder.stat().st_ino]

    def happen(self, *events: Event) -> None:
        self.queue.events.append(list(events))
        self.tree.drain()


@pytest.fixture
async def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


async def test_events_become_notices_under_the_folders_path(watched: Watched) -> None:
    number = watched.watch("Requests/truck-7")
    kinds = {
        inotify.MOVED_TO: Notice.MOVED_IN,
        inotify.CLOSE_WRITE: Notice.CLOSED,
        inotify.CREATE: Notice.CREATED,
        inotify.OPEN: Notice.OPENED,
        inotify.DELETE: Notice.REMOVED,
        inotify.MOVED_FROM: Notice.REMOVED,
    }
    for mask in kinds:
        watched.happen(Event(number, mask, 0, "a"))
    assert watched.told.notices == [("Requests/truck-7/a", what) for what in kinds.values()]
    watched.tree.close()


async def test_an_overflow_is_told_and_asks_for_a_scan(watched: Watched) -> None:
    watched.happen(Event(-1, inotify.Q_OVERFLOW, 0, ""))
    assert watched.told.lost == ["overflow"]
    watched.tree.close()


async def test_an_unmounted_disk_asks_for_a_scan(watched: Watched) -> None:
    number = watched.watch("Requests")
    watched.happen(Event(number, inotify.UNMOUNT, 0, ""), Event(number, inotify.IGNORED, 0, ""))
    assert watched.told.lost == ["unmount"]
    assert len(watched.tree) == 0
    watched.tree.close()


async def test_a_folder_moved_away_is_forgotten_with_all_below_it(watched: Watched) -> None:
    above = watched.watch("Requests")
    watched.watch("Requests/truck-7")
    inner = watched.watch("Requests/truck-7/inner")
    watched.watch("Requests/truck-70")
    watched.happen(
        Event(above, inotify.MOVED_FROM | inotify.ISDIR, 7, "truck-7"), Event(inner, inotify.CLOSE_WRITE, 0, "late")
    )
    assert sorted(watched.tree.paths()) == ["Requests", "Requests/truck-70"]
    assert watched.told.folders == ["Requests/truck-7"]
    assert watched.told.notices == []
    watched.tree.close()


async def test_a_folder_that_comes_back_is_watched_under_its_new_path_only(watched: Watched, tmp_path: Path) -> None:
    watched.watch("Requests/a")
    (tmp_path / "Requests/a").rename(tmp_path / "Requests/b")
    number = watched.watch("Requests/b")
    watched.happen(Event(number, inotify.CLOSE_WRITE, 0, "x"))
    assert watched.told.notices == [("Requests/b/x", Notice.CLOSED)]
    assert watched.tree.paths() == ["Requests/b"]
    watched.tree.close()


async def test_another_folder_under_the_same_path_ends_the_old_watch(watched: Watched, tmp_path: Path) -> None:
    old = watched.watch("Requests/a")
    (tmp_path / "Requests/a").rename(tmp_path / "elsewhere")
    new = watched.watch("Requests/a")
    assert new != old
    assert watched.queue.removed == [old]
    watched.happen(Event(old, inotify.CLOSE_WRITE, 0, "x"))
    assert watched.told.notices == []
    watched.tree.close()


async def test_when_no_watch_is_left_the_tree_says_that_it_is_incomplete(watched: Watched, tmp_path: Path) -> None:
    watched.queue.full = True
    (tmp_path / "Requests").mkdir()
    fd = os.open(tmp_path / "Requests", os.O_RDONLY)
    watched.tree.watch(fd, "Requests")
    os.close(fd)
    assert not watched.tree.complete
    watched.tree.close()


async def test_without_a_source_nothing_is_watched_and_nothing_fails(tmp_path: Path) -> None:
    tree = WatchedTree(None)
    tree.start(Told())
    tree.watch(0, "Requests")
    tree.forget("Requests")
    assert not tree.complete
    assert len(tree) == 0
    tree.close()


async def test_the_real_kernel_wakes_the_loop(tmp_path: Path) -> None:
    told = Told()
    tree = WatchedTree(Inotify())
    tree.start(told)
    fd = os.open(tmp_path, os.O_RDONLY)
    tree.watch(fd, "Requests/truck-7")
    os.close(fd)
    (tmp_path / "a").write_bytes(b"x")
    async with asyncio.timeout(5):
        while len(told.notices) < 3:
            await asyncio.sleep(0)
    assert told.notices[-1] == ("Requests/truck-7/a", Notice.CLOSED)
    tree.close()
