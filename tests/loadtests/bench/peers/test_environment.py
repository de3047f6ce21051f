"""The peers' packages are pinned, and come from wherever the package managers are set up to look."""

import json
import re
from pathlib import Path

import pytest

from loadtests.bench.peers import environment

HERE = Path(environment.__file__).parent


def test_each_package_in_python_has_a_version_and_hashes() -> None:
    entries = (HERE / "requirements.txt").read_text().replace("\\\n", " ").splitlines()
    assert len(entries) > 10
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry


def test_each_package_of_node_has_a_version_and_a_hash_and_no_address() -> None:
    packages = json.loads((HERE / "package-lock.json").read_text())["packages"]
    installed = {name: entry for name, entry in packages.items() if name}
    assert len(installed) > 10
    for entry in installed.values():
        assert entry["version"]
        assert entry["integrity"]
        assert "resolved" not in entry


def test_the_versions_that_the_figures_depend_on_are_said() -> None:
    versions = environment.pinned_versions()
    assert {"python-socketio", "channels", "channels-redis", "uvicorn", "socket.io (node)"} <= set(versions)


def test_without_node_it_is_said_that_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(environment.NotInstalled, match="node and npm"):
        environment.install_node(tmp_path / "node")
