"""The home: modes, secrets, lock."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.onebox.errors import HomeInUse, HomeRefused
from infra.onebox.home import Home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    home.password("postgres-password")
    assert mode(home.secrets) == 0o700
    assert mode(home.secrets / "postgres-password") == 0o600


def test_a_password_is_made_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    first = home.password("valkey-password")
    assert len(first) >= 32
    assert Home(tmp_path).password("valkey-password") == first
    assert home.password("postgres-password") != first


def test_makers_of_a_secret_at_the_same_time_agree(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: home.secret("key", lambda: b"%d" % number), range(40)))
    assert len(set(made)) == 1
    assert [file.name for file in home.secrets.iterdir()] == ["key"]


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    there = tmp_path / "mine"
    there.mkdir(mode=0o700)
    Home(there).prepare()
    assert mode(there) == 0o700


def test_parents_made_on_the_way_are_not_the_business_of_the_home(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    Home(closed / "home").prepare()
    assert mode(closed) == 0o700
    assert mode(closed / "home") == 0o711


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    with pytest.raises(HomeRefused, match="home is in the way"):
        Home(tmp_path / "home").prepare()


def test_a_second_supervisor_is_refused_and_told_who_holds_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    with home.lock(), pytest.raises(HomeInUse, match=f"process {os.getpid()}"), Home(tmp_path).lock():
        pass


def test_a_killed_holder_leaves_the_home_free(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    program = (
        "import sys, time, pathlib; from infra.onebox.home import Home\n"
        "with Home(pathlib.Path(sys.argv[1])).lock(): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HomeInUse), home.lock():
            pass
        holder.kill()
    with home.lock():
        pass
