"""Whoever is left of a killed process's session is found and killed, and nobody else."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from infra.onebox.leftovers import kill_session
from tests.infra.onebox.test_spawn import wait_gone

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of sessions")

# The leader starts one of another group, as handler processes are, which starts one as handlers do; then it is killed.
LEADER = """
import os, time
if os.fork() == 0:
    os.setpgid(0, 0)
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    time.sleep(600)
time.sleep(600)
"""


@pytest.fixture
def leader() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, start_new_session=True)
    yield process
    process.kill()
    process.wait()
    kill_session(process.pid)
    assert process.stdout is not None
    process.stdout.close()


def test_whoever_is_left_of_a_session_is_killed(leader: "subprocess.Popen[bytes]") -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        assert leader.stdout is not None
        grandchild = int(leader.stdout.readline())
        leader.kill()
        leader.wait()
        assert kill_session(leader.pid) >= 2
        wait_gone(grandchild, 10)
        assert kill_session(leader.pid) == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
