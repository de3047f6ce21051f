import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.memory_watch import family_bytes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says what a process holds")

MB = 1_000_000
# The parent holds 60 MB of its own and shares them with a child, which holds 40 MB more.
FAMILY = """
import os, sys, time
held = b"x" * 60_000_000
if os.fork() == 0:
    more = b"y" * 40_000_000
    print("ready", flush=True)
    time.sleep(60)
time.sleep(60)
"""


@pytest.fixture
def family() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process.pid
    os.killpg(process.pid, 9)
    process.wait()
    process.stdout.close()


def test_children_count_and_what_they_share_counts_once(family: int) -> None:
    closely = family_bytes(family, enough=0)
    assert 95 * MB < closely < 125 * MB
    assert family_bytes(family, enough=1000 * MB) > closely + 50 * MB  # not looked at closely: no more than a bound


def test_what_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert family_bytes(2**22 + 1, enough=0) == 0
    assert family_bytes(1, enough=0, proc=tmp_path) == 0
