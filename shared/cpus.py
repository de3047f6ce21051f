"""How many CPUs this process may use: not what the machine has, but what the scheduler and the container let it have.

A container's limit is time per period (`cpu.max`), of any CPU. Whoever starts a process for each CPU of the machine is
throttled in it: all of them work for a part of the period and stand still for the rest, heartbeats included.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

__all__ = ["available_cpus", "cgroup_cpus"]

_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def available_cpus() -> int:
    """At least one; a part of a CPU beyond the whole ones is left to whoever starts the processes."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # no such thing on macOS
        allowed = os.cpu_count() or 1
    limit = cgroup_cpus(_MEMBERSHIP, _CGROUPS)
    return max(1, allowed if limit is None else min(allowed, int(limit)))


def cgroup_cpus(membership: Path, root: Path) -> float | None:
    """The smallest limit of the control groups that this process is in, those around it included; None without one."""
    limits = [limit for folder in _folders(membership, root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _folders(membership: Path, root: Path) -> Iterator[Path]:
    try:
        lines = membership.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        own = PurePosixPath(path.lstrip("/"))
        if ".." in own.parts:  # of a group outside of what this container is shown
            own = PurePosixPath()
        for part in (own, *own.parents):
            yield top / part


def _limit(folder: Path) -> float | None:
    """CPUs by the second version's file, else by the first version's two."""
    words = _words(folder / "cpu.max") or [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
    if len(words) != 2 or not words[0].isdecimal() or not words[1].isdecimal():  # "max" and -1 are no limit
        return None
    quota, period = int(words[0]), int(words[1])
    return quota / period if quota > 0 and period > 0 else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text("ascii").split()
    except (OSError, ValueError):
        return []
