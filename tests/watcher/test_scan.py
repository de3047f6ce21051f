"""Comparing a folder with the ledger, page by page."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.cloud.beneath import Root
from shared.cloud.threads import FileThreads
from shared.store import feeds, items
from shared.store.pool import Pool, open_pool
from watcher import scan as scanning
from watcher import walk as walking
from watcher.pacing import FileStat
from watcher.places import Refused
from watcher.scan import Scanner
from watcher.walk import file_stat

FEED = "local:cloud:0"


class Finds:
    """What a scan found."""

    def __init__(self) -> None:
        self.different: list[str] = []
        self.missing: list[str] = []
        self.folders: list[str] = []
        self.refused: list[str] = []
        self.waits = 0

    async def room(self) -> None:
        self.waits += 1

    def on_difference(self, path: str, stat: FileStat) -> None:
        self.different.append(path)

    def on_missing(self, path: str) -> None:
        self.missing.append(path)

    def on_job_folder(self, path: str) -> None:
        self.folders.append(path)

    def on_refused(self, refused: Refused) -> None:
        self.refused.append(refused.path)


class Bench:
    """A folder, a ledger and scans of the one against the other."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self.folder = folder
        self.pool = pool
        self.threads = FileThreads(2)
        self.root = Root(folder)

    async def scan(self, *folders: str, only: str | None = None) -> Finds:
        finds = Finds()
        scanner = Scanner(
            root=lambda: self.root,
            watch=lambda fd, path: None,
            threads=self.threads,
            pool=self.pool,
            feed_id=FEED,
            store="local",
            finds=finds,
        )
        if only is None:
            await scanner.scan(folders)
        else:
            await scanner.scan_folder(only)
        return finds

    def put(self, *paths: str) -> None:
        for path in paths:
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.encode())

    async def record(self, *paths: str, state: items.ItemState = "announced") -> None:
        rows = []
        for path in paths:
            target = self.folder / path
            stat = file_stat(target.stat()) if target.is_file() else FileStat(0, 0, 0)
            area: items.Area = "request" if path.startswith("Requests") else "response"
            rows.append(items.Item(path, path.split("/")[1], area, state, "v", stat.size, stat.inode, stat.mtime_ns))
        async with self.pool.transaction() as connection:
            await items.upsert(connection, [(FEED, row) for row in rows])


@pytest.fixture
async def bench(tmp_path: Path, database_url: str) -> AsyncIterator[Bench]:
    for area in ("Requests", "Responses"):
        (tmp_path / area).mkdir()
    pool = await open_pool(database_url, name="test", max_size=2)
    await feeds.ensure(pool, [feeds.Feed(FEED, "local", "cloud", 0)])
    made = Bench(tmp_path, pool)
    yield made
    await made.threads.close()
    made.root.close()
    await pool.close()


async def test_new_changed_and_missing_files_are_found_and_known_ones_passed_over(bench: Bench) -> None:
    bench.put("Requests/a/known", "Requests/a/changed", "Requests/a/new")
    await bench.record("Requests/a/known", "Requests/a/changed", "Requests/a/gone", "Requests/b/gone-with-its-folder")
    (bench.folder / "Requests/a/changed").write_bytes(b"longer than before")
    found = await bench.scan("Requests/a")
    assert found.different == ["Requests/a/changed", "Requests/a/new"]
    assert found.missing == ["Requests/a/gone", "Requests/b/gone-with-its-folder"]


async def test_pages_of_any_size_find_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"Requests/{device}/{number}" for device in ("a", "a-b", "a.b") for number in range(7)]
    bench.put(*names)
    gone = [f"Requests/{device}/x{number}" for device in ("0", "a", "a.b", "z") for number in range(7)]
    await bench.record(*names[::2], *gone)
    for rows, page in ((1000, 500), (1, 500), (1000, 1), (2, 3), (5, 2)):
        monkeypatch.setattr(scanning, "ROWS", rows)
        monkeypatch.setattr(walking.walk, "__kwdefaults__", {"page": page})
        found = await bench.scan("Requests/a-b", "Requests/a.b", "Requests/a")
        assert sorted(found.different) == sorted(names[1::2])
        assert sorted(found.missing) == sorted(gone)
        assert found.waits > 0


async def test_the_scan_of_one_folder_judges_nothing_beside_it(bench: Bench) -> None:
    bench.put("Requests/a/in/new")
    await bench.record("Requests/a/in/gone", "Requests/a/in-side", "Requests/a/out", "Requests/a/in0")
    found = await bench.scan(only="Requests/a/in")
    assert (found.different, found.missing) == (["Requests/a/in/new"], ["Requests/a/in/gone"])


async def test_a_folder_that_is_gone_takes_all_below_it_along(bench: Bench) -> None:
    await bench.record("Requests/a/in/x", "Requests/a/in/deeper/y", "Requests/a/z")
    found = await bench.scan(only="Requests/a/in")
    assert found.missing == ["Requests/a/in/deeper/y", "Requests/a/in/x"]


async def test_a_job_folder_is_found_once_and_its_files_never(bench: Bench) -> None:
    bench.put("Responses/a/job.1/response.json", "Responses/a/other/report")
    await bench.record("Responses/a/job.1", state="reserved")
    found = await bench.scan("Responses/a")
    assert (found.different, found.folders, found.missing) == (["Responses/a/other/report"], [], [])


async def test_a_file_whose_time_is_not_relied_on_is_found_again(bench: Bench) -> None:
    bench.put("Requests/a/x")
    await bench.record("Requests/a/x")
    await bench.pool.fetch("UPDATE items SET mtime_ns = NULL")
    assert (await bench.scan("Requests/a")).different == ["Requests/a/x"]


async def test_bad_names_are_refused_and_sweep_nothing(bench: Bench) -> None:
    bench.put("Requests/a/good", "Requests/a/bad\nname")
    found = await bench.scan("Requests/a")
    assert (found.different, found.refused) == (["Requests/a/good"], ["Requests/a/bad\nname"])
