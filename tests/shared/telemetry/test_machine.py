"""Figures of the machine from files as Linux writes them, and the bound of a control group where there is one."""

from pathlib import Path

import pytest

from shared.telemetry.machine import Machine, Memory, busy_seconds, disk_operations, memory, network_bytes
from shared.telemetry.metrics import MACHINE_CPU_SECONDS, MACHINE_DISK_OPERATIONS, MACHINE_MEMORY_LIMIT_BYTES

STAT = "cpu  100 20 30 4000 500 1 2 3 50 60\ncpu0 1 2 3\n"
DISKS = """   7       0 loop0 9 0 0 0 9 0 0 0 0 0 0
 254       0 vda 70 0 0 0 30 0 0 0 0 0 0
 254       1 vda1 70 0 0 0 30 0 0 0 0 0 0
 259       0 nvme0n1 5 0 0 0 6 0 0 0 0 0 0
 253       0 dm-0 5 0 0 0 6 0 0 0 0 0 0
"""
NETWORK = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0
  eth0:  10 1 0 0 0 0 0 0  20 1 0 0 0 0 0 0
  eth1:   5 1 0 0 0 0 0 0   7 1 0 0 0 0 0 0
"""


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, "proc/stat", STAT)
    put(tmp_path, "proc/diskstats", DISKS)
    put(tmp_path, "proc/net/dev", NETWORK)
    put(tmp_path, "proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n")
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    return tmp_path


def test_idle_cores_waits_and_guests_are_not_busy(root: Path) -> None:
    assert busy_seconds(root, 100.0) == 1.56


def test_each_operation_of_a_disk_counts_once_however_it_is_cut(root: Path) -> None:
    assert disk_operations(root) == (75, 36)


def test_the_loopback_is_no_network(root: Path) -> None:
    assert network_bytes(root) == (15, 27)


def test_without_a_bound_memory_is_that_of_the_machine(root: Path) -> None:
    put(root, "sys/fs/cgroup/memory.max", "max\n")
    assert memory(root) == Memory(600 * 1024, 1000 * 1024)


def test_with_a_bound_it_is_that_of_the_group_without_what_is_only_cached(root: Path) -> None:
    put(root, "proc/self/cgroup", "0::/pod/one\n")
    put(root, "sys/fs/cgroup/pod/one/memory.max", "max\n")
    put(root, "sys/fs/cgroup/pod/memory.max", "500000\n")
    put(root, "sys/fs/cgroup/pod/memory.current", "450000\n")
    put(root, "sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 50000\n")
    assert memory(root) == Memory(400_000, 500_000)


def test_the_older_kind_of_groups_is_read_as_well(root: Path) -> None:
    put(root, "proc/self/cgroup", "4:memory:/docker/abc\n1:cpu:/\n")
    # The path is the host's; what is mounted is the group itself.
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n")
    put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "300000\n")
    put(root, "sys/fs/cgroup/memory/memory.stat", "total_inactive_file 100000\n")
    assert memory(root) == Memory(200_000, 700_000)


def test_counters_take_the_difference_and_never_go_back(root: Path) -> None:
    machine, writes = Machine(root), MACHINE_DISK_OPERATIONS.labels("write")
    before, cpu_before = writes._value.get(), MACHINE_CPU_SECONDS._value.get()
    machine.look()
    assert (writes._value.get(), MACHINE_CPU_SECONDS._value.get()) == (before, cpu_before)
    assert MACHINE_MEMORY_LIMIT_BYTES._value.get() == 1000 * 1024
    put(root, "proc/diskstats", DISKS.replace(" 30 ", " 41 "))
    machine.look()
    assert writes._value.get() == before + 11
    put(root, "proc/diskstats", DISKS)
    machine.look()
    assert writes._value.get() == before + 11


def test_where_there_is_no_such_file_the_rest_is_still_read(tmp_path: Path) -> None:
    put(tmp_path, "proc/meminfo", "MemTotal:  77 kB\nMemAvailable: 7 kB\n")
    Machine(tmp_path).look()
    assert MACHINE_MEMORY_LIMIT_BYTES._value.get() == 77 * 1024
    put(tmp_path, "proc/meminfo", "nothing that is known\n")
    put(tmp_path, "proc/stat", "cpu soon\n")
    Machine(tmp_path).look()
    assert MACHINE_MEMORY_LIMIT_BYTES._value.get() == 77 * 1024
