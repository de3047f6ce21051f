"""The kernel's notices, as they come."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from watcher import inotify
from watcher.inotify import Inotify


@pytest.fixture
def source() -> Iterator[Inotify]:
    try:
        made = Inotify()
    except OSError as error:
        pytest.skip(f"no inotify here: {error}")
    yield made
    made.close()


def add(source: Inotify, folder: Path) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return source.add(fd)
    finally:
        os.close(fd)


def masks(source: Inotify) -> list[tuple[str, int]]:
    return [(event.name, event.mask) for event in source.read()]


def test_nothing_happened_is_an_empty_list(source: Inotify, tmp_path: Path) -> None:
    add(source, tmp_path)
    assert source.read() == []


def test_a_written_file_is_created_opened_and_closed(source: Inotify, tmp_path: Path) -> None:
    add(source, tmp_path)
    (tmp_path / "a").write_bytes(b"x")
    assert masks(source) == [("a", inotify.CREATE), ("a", inotify.OPEN), ("a", inotify.CLOSE_WRITE)]


def test_a_linked_file_is_created_and_neither_opened_nor_closed(source: Inotify, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    folder = tmp_path / "folder"
    folder.mkdir()
    add(source, folder)
    os.link(outside, folder / "a")
    assert masks(source) == [("a", inotify.CREATE)]


def test_moves_are_told_at_both_ends(source: Inotify, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "a").write_bytes(b"x")
    first, second = add(source, tmp_path / "from"), add(source, tmp_path / "to")
    (tmp_path / "from" / "a").rename(tmp_path / "to" / "b")
    assert [(event.watch, event.mask, event.name) for event in source.read()] == [
        (first, inotify.MOVED_FROM, "a"),
        (second, inotify.MOVED_TO, "b"),
    ]


def test_names_that_are_not_utf8_come_through(source: Inotify, tmp_path: Path) -> None:
    add(source, tmp_path)
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    ((name, mask),) = masks(source)
    assert os.fsencode(name) == b"caf\xe9"
    assert mask == inotify.CREATE | inotify.ISDIR


def test_an_open_folder_is_watched_whatever_its_path_leads_to_by_then(source: Inotify, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to("/tmp")
    source.add(fd)
    os.close(fd)
    (tmp_path / "elsewhere" / "a").mkdir()
    assert masks(source) == [("a", inotify.CREATE | inotify.ISDIR)]


def test_the_same_folder_keeps_its_number_and_a_removed_watch_is_said_to_be_over(
    source: Inotify, tmp_path: Path
) -> None:
    number = add(source, tmp_path)
    assert add(source, tmp_path) == number
    source.remove(number)
    source.remove(number)
    assert [(event.watch, event.mask) for event in source.read()][-1] == (number, inotify.IGNORED)
    assert source.read() == []
