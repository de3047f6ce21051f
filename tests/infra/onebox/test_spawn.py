"""The launcher: what it starts dies with whoever started it."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.onebox.spawn import launch_arguments

LINUX_ONLY = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's")
AS_ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# A parent that starts one child through the launcher, says its pid and waits.
PARENT = """
import subprocess, sys
from infra.onebox.spawn import launch_arguments
user = sys.argv[1] or None
child = subprocess.Popen(launch_arguments(["/bin/sh", "-c", "echo $$; exec sleep 60"], user=user), cwd="/")
child.wait()
"""


def wait_gone(pid: int, seconds: float = 5) -> None:
    """Return when the process has ended, without asking again and again."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], seconds)[0], f"process {pid} lives"
    finally:
        os.close(descriptor)


@LINUX_ONLY
@pytest.mark.parametrize("user", ["", pytest.param("nobody", marks=AS_ROOT_ONLY)])
def test_a_child_ends_when_its_parent_is_killed(user: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, user], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
    wait_gone(child)


@LINUX_ONLY
def test_a_child_that_is_stopped_ends_too() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, ""], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        parent.kill()
    wait_gone(child)


def test_nothing_is_started_when_the_parent_is_gone_already() -> None:
    arguments = launch_arguments(["/bin/echo", "started"])
    arguments = [part if not part.startswith("--parent=") else "--parent=1" for part in arguments]
    done = subprocess.run(arguments, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (127, b"")


def test_the_program_keeps_its_own_options_and_its_exit_status() -> None:
    done = subprocess.run(
        launch_arguments(["/bin/sh", "-c", "echo $0; exit 7", "--user"]), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, b"--user\n")


def test_a_program_that_cannot_be_started_is_named() -> None:
    done = subprocess.run(launch_arguments(["/nowhere/server"]), capture_output=True, check=False)
    assert done.returncode == 127
    assert b"/nowhere/server: cannot be started: No such file" in done.stderr


@AS_ROOT_ONLY
def test_another_user_keeps_none_of_our_groups() -> None:
    done = subprocess.run(
        launch_arguments(["/usr/bin/id"], user="nobody"), capture_output=True, check=True, cwd="/", text=True
    )
    assert "uid=65534(nobody)" in done.stdout
    assert "root" not in done.stdout


def test_a_signal_to_our_terminal_does_not_reach_it(tmp_path: Path) -> None:
    said = subprocess.run(
        launch_arguments([sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"]),
        capture_output=True,
        check=True,
    )
    assert said.stdout == b"True\n"
