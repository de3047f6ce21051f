"""Processes as a benchmark sees them: their CPU time and memory from /proc (Linux), and children that die with us."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from infra.onebox.spawn import launch_arguments

__all__ = ["cpu_nanoseconds", "cpu_seconds", "resident_bytes", "start_python", "tree_cpu_seconds"]

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int | None = None) -> float:
    """User and system time of a process, all its threads, without its children (10 ms steps)."""
    stat = Path(f"/proc/{pid or os.getpid()}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def cpu_nanoseconds(pid: int) -> int:
    """The same, as exactly as the scheduler knows it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def tree_cpu_seconds(root: int) -> float:
    """The same for a process and all below it, those that have ended included."""
    spent: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            fields = stat[stat.rindex(")") + 2 :].split()
            spent[int(entry.name)] = sum(int(field) for field in fields[11:15]) / _TICK
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return sum(spent.get(pid, 0.0) for pid in found)


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
