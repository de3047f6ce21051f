"""What a process leaves behind when it is killed: groups of its own making that nobody else knows of.

A worker's handler processes lead groups, so that what a handler has started can be killed with it. When the worker
itself is killed they end with it, and what they had started is left; the session tells whose it was.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["kill_session"]

_PROC: Final = Path("/proc")
_ROUNDS: Final = 3


def kill_session(leader: int) -> int:
    """Kill whoever is still in the session that `leader` led, and say how many there were. Elsewhere than on Linux
    nobody can be found. The number of a session is not given out again while somebody is in it."""
    killed = 0
    for _ in range(_ROUNDS):  # one that is being started just now is there the next time
        found = [pid for pid in _members(leader) if pid != leader]
        if not found:
            break
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


def _members(session: int) -> Iterator[int]:
    try:
        entries = [entry for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return
    for entry in entries:
        try:
            fields = (entry / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        if len(fields) > 3 and fields[0] not in "ZX" and int(fields[3]) == session:
            yield int(entry.name)
