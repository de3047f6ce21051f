"""A run leaves nothing behind, however it ends, unless it failed and shall be looked at."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from loadtests.run_folder import run_folder

# Background jobs of a shell ignore SIGINT, and so do their children: the run gets back what it has at a terminal.
RUN = """
import asyncio, signal, time
from loadtests.run_folder import run_folder
signal.signal(signal.SIGINT, signal.default_int_handler)
with run_folder("fleetwire-test-") as folder:
    (folder / "left").write_text("")
    print(folder, flush=True)
    {wait}
"""


@pytest.mark.processes
@pytest.mark.parametrize("wait", ["time.sleep(60)", "asyncio.run(asyncio.sleep(60))"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_end_removes_its_folder(wait: str, signum: signal.Signals) -> None:
    command = [sys.executable, "-c", RUN.format(wait=wait)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert (folder / "left").exists()
        process.send_signal(signum)
        process.communicate(timeout=30)
    assert not folder.exists()
    assert process.returncode in (128 + signum, -signum)


def failed_run(*, keep_failed: bool) -> Path:
    kept: list[Path] = []
    with suppress(ZeroDivisionError), run_folder("fleetwire-test-", keep_failed=keep_failed) as folder:
        kept.append(folder)
        raise ZeroDivisionError
    return kept[0]


def test_a_run_that_failed_keeps_it_if_it_shall() -> None:
    kept = failed_run(keep_failed=True)
    kept.rmdir()
    assert not failed_run(keep_failed=False).exists()
    with run_folder("fleetwire-test-", keep=True) as folder:
        pass
    folder.rmdir()
