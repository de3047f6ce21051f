"""What the machine under a process does: cores, memory, disks, network. Read from Linux when the metrics are asked for.

No agent beside the processes is needed for these few figures. A process whose control group has a bound on memory is
ended by that bound, so it is what counts there, not the machine. Elsewhere than on Linux the figures stay 0.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from shared.telemetry.metrics import (
    MACHINE_CPU_SECONDS,
    MACHINE_CPUS,
    MACHINE_DISK_OPERATIONS,
    MACHINE_MEMORY_LIMIT_BYTES,
    MACHINE_MEMORY_USED_BYTES,
    MACHINE_NETWORK_BYTES,
)

__all__ = ["Machine", "Memory", "busy_seconds", "disk_operations", "memory", "network_bytes"]

# Disks whole, not their partitions nor what is made of other disks or of memory: each operation once.
_DISK: Final = re.compile(r"(?:[shv]d[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+)")
_NOT_BUSY: Final = (3, 4)  # idle and waiting for a disk, among the fields of /proc/stat
_GUEST: Final = 8  # counted in user time already, and so is what follows it
_NO_BOUND: Final = 1 << 60


class Memory(NamedTuple):
    """Bytes."""

    used: int
    limit: int


def busy_seconds(root: Path, ticks_per_s: float) -> float:
    """CPU time since the machine started, of all cores."""
    fields = (root / "proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]
    busy = sum(int(value) for at, value in enumerate(fields[:_GUEST]) if at not in _NOT_BUSY)
    return busy / ticks_per_s


def disk_operations(root: Path) -> tuple[int, int]:
    """Reads and writes that disks completed since the machine started."""
    reads = writes = 0
    for line in (root / "proc/diskstats").read_text("ascii").splitlines():
        fields = line.split()
        if len(fields) > 7 and _DISK.fullmatch(fields[2]):
            reads += int(fields[3])
            writes += int(fields[7])
    return reads, writes


def network_bytes(root: Path) -> tuple[int, int]:
    """Bytes in and out since the machine started."""
    received = sent = 0
    for line in (root / "proc/net/dev").read_text("ascii").splitlines()[2:]:
        name, _, figures = line.partition(":")
        fields = figures.split()
        if name.strip() != "lo" and len(fields) > 8:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def memory(root: Path) -> Memory:
    """Of the control group nearest to the process that has a bound, else of the machine."""
    known = dict(re.findall(r"^(\w+):\s+(\d+) kB", (root / "proc/meminfo").read_text("ascii"), re.MULTILINE))
    whole = int(known["MemTotal"]) * 1024
    for folder, limit_file, used_file, cache in _groups(root):
        limit = _number(folder / limit_file)
        if limit is not None and 0 < limit < min(whole, _NO_BOUND):
            used = _number(folder / used_file) or 0
            stat = _text(folder / "memory.stat")
            given_back = re.search(rf"^{cache} (\d+)$", stat, re.MULTILINE)
            return Memory(max(0, used - int(given_back[1] if given_back else 0)), limit)
    return Memory(whole - int(known["MemAvailable"]) * 1024, whole)


def _groups(root: Path) -> list[tuple[Path, str, str, str]]:
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # In a container the path is often that of the host, and the mount shows the group itself.
        if number == "0" and not controllers:
            mount = root / "sys/fs/cgroup"
            names = ("memory.max", "memory.current", "inactive_file")
        elif controllers == "memory":
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inner = Path(path.lstrip("/"))
        found += [(mount / one, *names) for one in (inner, *inner.parents)]
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii", "replace")
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


class Machine:
    """Sets the metrics when told to `look()`. What counts upwards is added as differences, so it begins with 0."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._ticks_per_s = float(os.sysconf("SC_CLK_TCK")) if hasattr(os, "sysconf") else 100.0
        self._before: dict[str, float] = {}

    def look(self) -> None:
        """Read what there is. A file that is not there, or not as expected, leaves its figures as they are."""
        MACHINE_CPUS.set(os.cpu_count() or 1)
        for read in (self._memory, self._cpu, self._disks, self._network):
            try:
                read()
            except (OSError, ValueError, LookupError):
                continue

    def _memory(self) -> None:
        now = memory(self._root)
        MACHINE_MEMORY_USED_BYTES.set(now.used)
        MACHINE_MEMORY_LIMIT_BYTES.set(now.limit)

    def _cpu(self) -> None:
        self._add("cpu", busy_seconds(self._root, self._ticks_per_s), MACHINE_CPU_SECONDS.inc)

    def _disks(self) -> None:
        reads, writes = disk_operations(self._root)
        self._add("reads", reads, MACHINE_DISK_OPERATIONS.labels("read").inc)
        self._add("writes", writes, MACHINE_DISK_OPERATIONS.labels("write").inc)

    def _network(self) -> None:
        received, sent = network_bytes(self._root)
        self._add("received", received, MACHINE_NETWORK_BYTES.labels("in").inc)
        self._add("sent", sent, MACHINE_NETWORK_BYTES.labels("out").inc)

    def _add(self, what: str, value: float, inc: Callable[[float], None]) -> None:
        inc(max(0.0, value - self._before.get(what, value)))
        self._before[what] = value
