"""Handlers of this run, offered to its workers as plug-ins: one answers differently every time, two never answer."""

import os
import signal
from pathlib import Path
from typing import NoReturn

from worker.handlers.contract import Answer, ResponseFile, Task

__all__ = ["KINDS", "Crash", "Echo", "Fails", "install"]


class Echo:
    """Two files, of which one is different in every run: two runs of it that both counted would be seen."""

    kind = "echo"
    extensions = frozenset({".echo"})

    def recognises(self, head: bytes) -> bool:
        return False

    def run(self, task: Task) -> Answer:
        (task.output / "copy.txt").write_bytes(task.path.read_bytes())
        (task.output / "run.txt").write_bytes(os.urandom(16))
        return Answer("processed", files=tuple(ResponseFile(name, "text/plain") for name in ("copy.txt", "run.txt")))


class Fails:
    """Raises."""

    kind = "fails"
    extensions = frozenset({".fails"})

    def recognises(self, head: bytes) -> bool:
        return False

    def run(self, task: Task) -> NoReturn:
        raise RuntimeError("as it always does")


class Crash:
    """Kills its process."""

    kind = "crash"
    extensions = frozenset({".crash"})

    def recognises(self, head: bytes) -> bool:
        return False

    def run(self, task: Task) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("dead")


KINDS = (Echo, Fails, Crash)


def install(folder: Path) -> None:
    """Write the metadata of an installed package that offers them; the folder goes on PYTHONPATH."""
    info = folder / "fleetwire_fault_handlers-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fleetwire-fault-handlers\nVersion: 1.0\n")
    lines = [f"{handler.kind} = {__name__}:{handler.__name__}" for handler in KINDS]
    (info / "entry_points.txt").write_text("[fleetwire.handlers]\n" + "\n".join(lines) + "\n")
