"""Processes as a benchmark sees them: their CPU time and memory from /proc (Linux), and children that die with us."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from infra.onebox.spawn import launch_arguments

__all__ = ["cpu_seconds", "resident_bytes", "start_python"]

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int | None = None) -> float:
    """User and system time of a process, all its threads, without its children (10 ms steps)."""
    stat = Path(f"/proc/{pid or os.getpid()}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def start_python(
    module: str,
    arguments: Sequence[str] = (),
    *,
    environ: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
) -> "subprocess.Popen[str]":
    """Start one of our modules with pipes for its orders and answers; it dies with us. `environ` adds to ours."""
    return subprocess.Popen(
        launch_arguments([sys.executable, "-m", module, *arguments]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=os.environ | dict(environ or {}),
        text=True,
    )
