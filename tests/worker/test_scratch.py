import subprocess
import sys
from pathlib import Path

from tests.worker.rig import ROOT
from worker.scratch import Scratch


def test_a_job_gets_an_empty_folder_that_goes_away(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "work")
    folder = scratch.job_folder("j1.1")
    assert list(folder.output.iterdir()) == []
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.input.write_text("x")
    folder.remove()
    folder.remove()
    assert not folder.path.exists()
    scratch.close()
    assert list((tmp_path / "work").iterdir()) == []


def test_the_folder_of_a_living_run_is_left_alone(tmp_path: Path) -> None:
    one, other = Scratch(tmp_path), Scratch(tmp_path)
    assert one.sweep() == 0
    assert other.path.exists()
    other.close()
    assert one.sweep() == 0
    one.close()


def test_the_folder_of_a_killed_run_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from worker.scratch import Scratch; "
        "s = Scratch(Path(sys.argv[1])); s.job_folder('j').input.write_text('left'); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False, timeout=30)
    (left,) = tmp_path.iterdir()
    (tmp_path / "something-else").mkdir()
    scratch = Scratch(tmp_path)
    assert scratch.sweep() == 1
    assert not left.exists()
    assert (tmp_path / "something-else").exists()
    scratch.close()
