"""Walking a folder: everything in order, nothing through a link."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.beneath import Root
from watcher.places import Refused
from watcher.walk import Ask, WalkPage, device_folders, walk


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    for area in ("Requests", "Responses"):
        (tmp_path / area).mkdir()
    opened = Root(tmp_path)
    yield opened
    opened.close()


def put(folder: Path, *paths: str) -> None:
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.encode())


def nobody(folder_fd: int, path: str) -> None:
    """Watches nothing."""


def pages(
    root: Root, *folders: str, job_folders: Callable[[str], bool] = lambda path: False, page: int = 500
) -> list[WalkPage]:
    steps = walk(root, folders, nobody, page=page)
    found: list[WalkPage] = []
    answer: frozenset[str] | None = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            return found
        answer = None
        if isinstance(step, Ask):
            answer = frozenset(path for path in step.folders if job_folders(path))
        else:
            found.append(step)


def names(found: list[WalkPage]) -> list[str]:
    return [path for page in found for path, _ in page.files]


def refused(found: list[WalkPage]) -> list[tuple[str, str]]:
    return [(one.path, one.reason) for page in found for one in page.refused]


def test_files_come_in_order_of_path_across_folders(root: Root, tmp_path: Path) -> None:
    put(tmp_path, "Requests/a/b.txt", "Requests/a/b/c", "Requests/a/b-d", "Requests/a/b0", "Requests/a/b/a/x")
    found = names(pages(root, "Requests/a"))
    assert found == sorted(found)
    assert len(found) == 5


@given(st.sets(st.text("ab-./0é", min_size=1, max_size=6), max_size=12))
def test_any_tree_is_walked_in_order_and_whole(tmp_path_factory: pytest.TempPathFactory, wanted: set[str]) -> None:
    folder = tmp_path_factory.mktemp("tree")
    put(folder, "Requests/a/0")
    expected = ["Requests/a/0"]
    for path in wanted:
        parts = [f"n{part}" for part in path.split("/") if part]
        target = "/".join(["Requests/a", *parts])
        try:
            put(folder, target)
        except OSError:
            continue  # a file is where a folder should be, or the other way round
        expected.append(target)
    opened = Root(folder)
    try:
        for size in (1, 3, 500):
            found = pages(opened, "Requests/a", page=size)
            assert names(found) == sorted(set(expected))
            assert all(len(page) <= size for page in found)
            ends = [page.upto for page in found]
            assert ends[-1] is None
            assert [end for end in ends[:-1] if end is not None] == [page.files[-1][0] for page in found[:-1]]
    finally:
        opened.close()


def test_hidden_and_unfinished_files_are_passed_over(root: Root, tmp_path: Path) -> None:
    put(tmp_path, "Requests/a/.x", "Requests/a/x.tmp", "Requests/a/.git/config", "Requests/a/y~", "Requests/a/z")
    assert names(pages(root, "Requests/a")) == ["Requests/a/z"]


def test_links_pipes_and_bad_names_are_refused_and_the_rest_is_found(root: Root, tmp_path: Path) -> None:
    put(tmp_path, "Requests/a/good", "outside/secret")
    folder = tmp_path / "Requests/a"
    (folder / "link").symlink_to(tmp_path / "outside/secret")
    (folder / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe")
    (folder / "new\nline").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).write_bytes(b"x")
    found = pages(root, "Requests/a")
    assert names(found) == ["Requests/a/good"]
    assert sorted(reason for _, reason in refused(found)) == ["file_name", "file_name", "link", "link", "special"]


def test_folders_deeper_than_allowed_are_refused(root: Root, tmp_path: Path) -> None:
    put(tmp_path, "Requests/a/1/2/3/4/5/6/7/ok", "Requests/a/1/2/3/4/5/6/7/8/too-deep")
    found = pages(root, "Requests/a")
    assert names(found) == ["Requests/a/1/2/3/4/5/6/7/ok"]
    assert refused(found) == [("Requests/a/1/2/3/4/5/6/7/8/too-deep", "depth")]


def test_a_job_folder_is_reported_and_not_entered(root: Root, tmp_path: Path) -> None:
    put(tmp_path, "Responses/a/job.1/response.json", "Responses/a/other/report", "Responses/a/z")
    found = pages(root, "Responses/a", job_folders=lambda path: "job." in path)
    assert [path for page in found for path in page.folders] == ["Responses/a/job.1"]
    assert names(found) == ["Responses/a/other/report", "Responses/a/z"]


def test_only_the_folders_right_below_a_device_in_responses_are_asked_about(root: Root, tmp_path: Path) -> None:
    put(tmp_path, "Requests/a/x/f", "Responses/a/x/y/f")
    asked: list[str] = []

    def remember(path: str) -> bool:
        asked.append(path)
        return False

    pages(root, "Requests/a", "Responses/a", job_folders=remember)
    assert asked == ["Responses/a/x"]


def test_each_folder_is_watched_before_it_is_listed(root: Root, tmp_path: Path) -> None:
    put(tmp_path, "Requests/a/f", "Requests/a/inner/f")
    watched: list[str] = []

    def watch(folder_fd: int, path: str) -> None:
        watched.append(path)
        put(tmp_path, f"{path}/while-watching")

    steps = walk(root, ["Requests/a"], watch)
    page = steps.send(None)
    assert isinstance(page, WalkPage)
    assert watched == ["Requests/a", "Requests/a/inner"]
    assert [path for path, _ in page.files if path.endswith("while-watching")] == [
        "Requests/a/inner/while-watching",
        "Requests/a/while-watching",
    ]


def test_a_missing_folder_is_an_empty_walk(root: Root) -> None:
    (page,) = pages(root, "Requests/gone")
    assert not page.files
    assert page.upto is None


def test_a_walk_that_is_given_up_leaves_nothing_open(root: Root, tmp_path: Path) -> None:
    put(tmp_path, *(f"Requests/a/{number}/f" for number in range(10)))
    before = len(list(Path("/proc/self/fd").iterdir()))
    steps = walk(root, ["Requests/a"], nobody, page=2)
    steps.send(None)
    steps.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_devices_are_listed_by_partition_and_in_order(root: Root, tmp_path: Path) -> None:
    put(tmp_path, "Requests/truck-7/f", "Responses/truck-7/f", "Requests/BAD/f", "Requests/.x/f", "Requests/stray.csv")
    (tmp_path / "Requests/link").symlink_to(tmp_path)
    listing = device_folders(root, nobody)
    assert list(listing.by_partition.values()) == [["Requests/truck-7", "Responses/truck-7"]]
    assert sorted((one.path, one.reason) for one in listing.refused) == [
        ("Requests/BAD", "device_id"),
        ("Requests/link", "link"),
        ("Requests/stray.csv", "misplaced"),
    ]
    assert all(isinstance(one, Refused) for one in listing.refused)


def test_a_missing_area_is_an_error_and_not_an_empty_listing(root: Root, tmp_path: Path) -> None:
    (tmp_path / "Responses").rmdir()
    with pytest.raises(FileNotFoundError):
        device_folders(root, nobody)
