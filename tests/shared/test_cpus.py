import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cpus import available_cpus, cgroup_cpus


def site(folder: Path, membership: str, **files: str) -> tuple[Path, Path]:
    (folder / "membership").write_text(membership)
    root = folder / "cgroup"
    root.mkdir()
    for name, content in files.items():
        file = root / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder / "membership", root


def test_a_containers_limit_is_read_from_its_group(tmp_path: Path) -> None:
    assert cgroup_cpus(*site(tmp_path, "0::/\n", cpu_dot_max="150000 100000\n")) == 1.5


def test_the_tightest_of_the_groups_around_counts(tmp_path: Path) -> None:
    files = {"a__cpu_dot_max": "200000 100000", "a__b__cpu_dot_max": "max 100000", "cpu_dot_max": "max 100000"}
    assert cgroup_cpus(*site(tmp_path, "0::/a/b\n", **files)) == 2.0


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    membership = "3:cpuset:/x\n1:cpu,cpuacct:/pod\n0::/\n"
    files = {"cpu__pod__cpu_dot_cfs_quota_us": "50000", "cpu__pod__cpu_dot_cfs_period_us": "100000"}
    assert cgroup_cpus(*site(tmp_path, membership, **files)) == 0.5


@pytest.mark.parametrize("content", ["max 100000", "", "many few", "0 100000", "1 0", "100000"])
def test_no_limit_or_nonsense_is_no_limit(tmp_path: Path, content: str) -> None:
    assert cgroup_cpus(*site(tmp_path, "0::/../..\nnonsense\n", cpu_dot_max=content)) is None
    assert cgroup_cpus(tmp_path / "absent", tmp_path) is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_bound_to_one_cpu_counts_one() -> None:
    first = min(os.sched_getaffinity(0))
    code = f"import os, shared.cpus; os.sched_setaffinity(0, {{{first}}}); print(shared.cpus.available_cpus())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout.strip() == "1"
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)
