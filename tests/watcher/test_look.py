"""Looking at one file: there, whole, and its hash."""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.cloud.beneath import Root
from shared.cloud.threads import FileThreads
from watcher import look as looking
from watcher.look import Failed, Gone, Large, Outcome, Unsettled, look_at, read_large
from watcher.pacing import FileStat, Look
from watcher.places import Refused
from watcher.translate import Seen
from watcher.walk import file_stat

PATH = "Requests/truck-7/a.csv"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    (tmp_path / "Requests/truck-7").mkdir(parents=True)
    opened = Root(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
async def threads() -> AsyncIterator[FileThreads]:
    made = FileThreads(2)
    yield made
    await made.close()


def look(root: Root, path: str = PATH, expect: FileStat | None = None) -> Outcome:
    (outcome,) = look_at(root, [Look(path, 5.0, live=True, expect=expect)])
    return outcome


def write(tmp_path: Path, content: bytes, age_s: float = 10.0) -> FileStat:
    target = tmp_path / PATH
    target.write_bytes(content)
    when = time.time() - age_s
    os.utime(target, (when, when))
    return file_stat(target.stat())


def test_a_whole_file_is_seen_with_its_hash(root: Root, tmp_path: Path) -> None:
    stat = write(tmp_path, b"abc")
    seen = look(root)
    assert isinstance(seen, Seen)
    assert (seen.sha256, seen.stat, seen.racy) == (hashlib.sha256(b"abc").hexdigest(), stat, False)
    assert (seen.live, seen.noticed_at, seen.place.device_id) == (True, 5.0, "truck-7")


def test_an_empty_file_is_a_file(root: Root, tmp_path: Path) -> None:
    write(tmp_path, b"")
    assert isinstance(look(root), Seen)


def test_a_file_written_this_moment_is_seen_but_its_time_is_not_relied_on(root: Root, tmp_path: Path) -> None:
    write(tmp_path, b"abc", age_s=0.0)
    seen = look(root)
    assert isinstance(seen, Seen)
    assert seen.racy


def test_nothing_there_is_gone(root: Root) -> None:
    assert look(root) == Gone(PATH)
    assert look(root, "Requests/truck-9/x") == Gone("Requests/truck-9/x")


def test_where_the_whole_area_is_missing_nothing_is_gone(root: Root) -> None:
    assert isinstance(look(root, "Responses/truck-7/a"), Failed)


def test_a_folder_where_a_file_was_means_that_the_file_is_gone(root: Root, tmp_path: Path) -> None:
    (tmp_path / PATH).mkdir()
    assert look(root) == Gone(PATH)


def test_links_and_pipes_are_refused_and_not_opened(root: Root, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / PATH).symlink_to(tmp_path / "secret")
    refused = look(root)
    assert isinstance(refused, Refused)
    assert refused.reason == "link"
    os.mkfifo(tmp_path / "Requests/truck-7/pipe")
    refused = look(root, "Requests/truck-7/pipe")
    assert isinstance(refused, Refused)
    assert refused.reason == "special"


def test_a_link_on_the_way_is_refused(root: Root, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a").write_bytes(b"secret")
    (tmp_path / "Requests/truck-7/folder").symlink_to(tmp_path / "outside")
    refused = look(root, "Requests/truck-7/folder/a")
    assert isinstance(refused, Refused)
    assert refused.reason == "link"


def test_a_file_that_is_not_what_the_scan_saw_is_unsettled(root: Root, tmp_path: Path) -> None:
    stat = write(tmp_path, b"abc")
    assert isinstance(look(root, expect=stat), Seen)
    assert look(root, expect=stat._replace(size=2)) == Unsettled(PATH, stat)


def test_a_file_that_grows_while_it_is_read_is_unsettled(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, b"abc")
    read = os.read

    def grow(fd: int, length: int) -> bytes:
        with (tmp_path / PATH).open("ab") as file:
            file.write(b"more")
        return read(fd, length)

    monkeypatch.setattr(os, "read", grow)
    assert isinstance(look(root), Unsettled)


async def test_a_large_file_is_hashed_in_pieces(
    root: Root, tmp_path: Path, threads: FileThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "SMALL_BYTES", 10)
    monkeypatch.setattr(looking, "_CHUNK", 1000)
    content = os.urandom(40_001)
    stat = write(tmp_path, content)
    assert look(root) == Large(PATH, stat)
    seen = await read_large(root, threads, Look(PATH, 5.0), stat)
    assert isinstance(seen, Seen)
    assert seen.sha256 == hashlib.sha256(content).hexdigest()


async def test_a_large_file_that_changed_since_it_was_seen_is_unsettled(
    root: Root, tmp_path: Path, threads: FileThreads
) -> None:
    stat = write(tmp_path, b"x" * 100)
    write(tmp_path, b"y" * 101)
    assert isinstance(await read_large(root, threads, Look(PATH, 5.0), stat), Unsettled)


async def test_a_large_file_that_is_gone_is_gone(root: Root, threads: FileThreads) -> None:
    assert await read_large(root, threads, Look(PATH, 5.0), FileStat(1, 2, 3)) == Gone(PATH)


def test_numbers_that_do_not_fit_a_row_are_made_to_fit() -> None:
    found = os.stat_result((0o100644, 2**64 - 1, 1, 1, 0, 0, 5, 0, 0, 0), {"st_mtime_ns": 2**70})
    assert file_stat(found) == FileStat(-1, 5, 2**63 - 1)
