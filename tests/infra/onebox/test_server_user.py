"""Where a server that runs as another user can reach its files."""

import os
import stat
from pathlib import Path

import pytest

from infra.onebox.errors import HomeRefused
from infra.onebox.server_user import ServerUser, can_enter, copy_tree, shared_place

STRANGER = ServerUser("stranger", 4_000_001, 4_000_001)


def test_a_closed_parent_closes_everything_beneath_it(homes: Path) -> None:
    closed = homes / "closed"
    inside = closed / "inside"
    inside.mkdir(parents=True)
    closed.chmod(0o755)
    inside.chmod(0o755)
    assert can_enter(inside, STRANGER)
    closed.chmod(0o700)
    assert not can_enter(inside, STRANGER)


def test_passing_through_needs_no_reading(homes: Path) -> None:
    passage = homes / "passage"
    passage.mkdir()
    passage.chmod(0o711)
    assert can_enter(passage, STRANGER)


def test_we_ourselves_are_not_asked(tmp_path: Path) -> None:
    assert can_enter(tmp_path, None)


def test_a_link_counts_as_what_it_leads_to(homes: Path) -> None:
    closed = homes / "private"
    closed.mkdir(mode=0o700)
    (homes / "link").symlink_to(closed)
    assert not can_enter(homes / "link", STRANGER)


def test_the_shared_place_is_found_again(tmp_path: Path) -> None:
    place = shared_place("abc", tmp_path)
    assert stat.S_IMODE(place.stat().st_mode) == 0o711
    assert shared_place("abc", tmp_path) == place


def test_a_place_that_others_may_write_is_refused(tmp_path: Path) -> None:
    place = shared_place("abc", tmp_path)
    place.chmod(0o777)
    with pytest.raises(HomeRefused, match="was not made by this set-up"):
        shared_place("abc", tmp_path)


def test_a_link_laid_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fleetwire-abc").symlink_to(tmp_path)
    with pytest.raises(HomeRefused):
        shared_place("abc", tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_place_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(shared_place("abc", tmp_path), STRANGER.uid, STRANGER.gid)
    with pytest.raises(HomeRefused):
        shared_place("abc", tmp_path)


def test_a_copy_is_readable_by_all_and_runnable_where_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True, mode=0o700)
    (source / "bin" / "server").write_text("#!/bin/sh\n")
    (source / "bin" / "server").chmod(0o700)
    (source / "data.txt").write_text("x")
    (source / "data.txt").chmod(0o600)
    copy_tree(source, tmp_path / "target")
    modes = {
        str(path.relative_to(tmp_path / "target")): oct(path.stat().st_mode & 0o777)
        for path in (tmp_path / "target").rglob("*")
    }
    assert modes == {"bin": "0o755", "bin/server": "0o755", "data.txt": "0o644"}


def test_a_copy_that_is_there_is_left_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "new").touch()
    copy_tree(source, target)
    assert list(target.iterdir()) == []
