import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.cloud.beneath import Root


@pytest.fixture(params=["openat2", "walk"])
def beneath(request: pytest.FixtureRequest, root: Path) -> Iterator[Root]:
    opened = Root(root, allow_openat2=request.param == "openat2")
    yield opened
    opened.close()


def read(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="openat2 is a call of Linux")
def test_linux_opens_by_one_call(root: Path) -> None:
    opened = Root(root)
    assert "openat2" in repr(opened)
    opened.close()


def test_a_file_beneath_the_root_is_opened(beneath: Root, root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "c.txt").write_bytes(b"here")
    assert read(beneath.open_file(("a", "b", "c.txt"))) == b"here"


@pytest.mark.parametrize("parts", [("link", "secret"), ("file-link",), ("inner", "up", "secret"), ("self",)])
def test_no_link_is_followed_wherever_it_stands(
    beneath: Root, root: Path, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    (root / "file-link").symlink_to(outside / "secret")
    (root / "inner").mkdir()
    (root / "inner" / "up").symlink_to("../../outside")
    (root / "self").symlink_to("self")
    with pytest.raises(OSError, match=r"\[Errno 40\]"):
        beneath.open_file(parts)
    if len(parts) > 1:
        with pytest.raises(OSError, match=r"\[Errno 40\]"):
            beneath.make_folders(parts)
        with pytest.raises(OSError, match=r"\[Errno 40\]"):
            beneath.stat(parts)


def test_a_link_to_a_file_inside_is_not_followed_either(beneath: Root, root: Path) -> None:
    (root / "real").write_bytes(b"")
    (root / "alias").symlink_to("real")
    with pytest.raises(OSError, match=r"\[Errno 40\]"):
        beneath.open_file(("alias",))


def test_pipes_sockets_and_folders_are_no_files_and_none_is_waited_for(beneath: Root, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(root)  # a socket's path is short
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        for name in ("pipe", "folder", "socket"):
            with pytest.raises(OSError, match=r"\[Errno 6\]"):
                beneath.open_file((name,))


def test_what_is_not_there_is_not_found(beneath: Root, root: Path) -> None:
    (root / "file").write_bytes(b"")
    for parts in (("none",), ("none", "deeper")):
        with pytest.raises(FileNotFoundError):
            beneath.open_file(parts)
    with pytest.raises(NotADirectoryError):
        beneath.open_file(("file", "below"))


def test_missing_folders_are_made_and_present_ones_taken(beneath: Root, root: Path) -> None:
    for _ in range(2):
        os.close(beneath.make_folders(("a", "b", "c")))
    assert (root / "a" / "b" / "c").is_dir()


def test_no_descriptor_is_left_open(beneath: Root, root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "loop").symlink_to("loop")
    (root / "file").write_bytes(b"")
    before = len(list(Path("/dev/fd").iterdir()))
    for parts in (("a", "loop"), ("a", "none"), ("a", "loop", "x"), ("file", "x"), ("a",), ("a", "none", "x")):
        with pytest.raises(OSError, match="Errno"):
            beneath.open_file(parts)
        with pytest.raises(OSError, match="Errno"):
            beneath.make_folders(("file", "x"))
    os.close(beneath.make_folders(("a", "b", "c")))
    assert len(list(Path("/dev/fd").iterdir())) == before
