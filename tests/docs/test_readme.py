"""README.md says what works: its example is run as it stands, and what its commands name is there for everybody."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.cli import command_names
from loadtests.machine import Machine, running_machine

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
# Made by `make up`, or by the example itself, or a path in a cloud store.
_MADE = (".venv/", ".fleetwire/", "Requests/")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def commands() -> list[list[str]]:
    lines = [line for block in blocks("") for line in block.splitlines() if re.match(r"(make|cp|\.venv/)", line)]
    return [shlex.split(line, comments=True) for line in lines]


def is_tracked(path: str) -> bool:
    """Whether a clone has it. In a copy that is no clone: whether it is there."""
    listed = subprocess.run(["git", "ls-files", "--", path], cwd=ROOT, capture_output=True, check=False, text=True)
    return bool(listed.stdout) if listed.returncode == 0 else (ROOT / path).is_file()


def test_every_file_that_a_command_or_a_link_names_is_part_of_the_project() -> None:
    named = {word for words in commands() for word in words[1:] if "/" in word and not word.startswith(_MADE)}
    named |= {link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link}
    assert {"examples/load.csv", "infra/demo/files/launch.jpg", "docs/setup.md"} <= named
    assert [path for path in sorted(named) if not is_tracked(path)] == []


def test_every_command_of_ours_exists() -> None:
    named = {words[1] for words in commands() if words[0] == ".venv/bin/fleetwire"}
    assert {"device", "publish", "demo", "doctor", "token"} <= named <= set(command_names())


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with running_machine(hubs=1) as running:
        yield running


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_the_example_takes_two_responses_with_files_of_the_same_names(machine: Machine, tmp_path: Path) -> None:
    [example] = blocks("python")
    assert "http://127.0.0.1:8080" in example
    (tmp_path / "example.py").write_text(example.replace("http://127.0.0.1:8080", machine.api))
    environment = {**os.environ, "FLEETWIRE_HOME": str(machine.folder / "home")}
    register = next(words for words in commands() if words[1] == "token")
    assert register[-2:] == [">", "truck-8.token"]
    fleetwire = str(Path(sys.executable).with_name("fleetwire"))
    token = subprocess.run([fleetwire, *register[1:-2]], env=environment, capture_output=True, text=True, check=True)
    (tmp_path / register[-1]).write_text(token.stdout)

    # The token made the folder, so that files can be put there at once.
    requests = machine.cloud / "Requests" / "truck-8"
    for name in ("morning.csv", "evening.csv"):
        (requests / name).write_bytes((ROOT / "examples" / "load.csv").read_bytes())
    with subprocess.Popen(
        [sys.executable, "-u", "example.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as device:
        try:
            wait_for(device, lambda: len(list(tmp_path.glob("inbox/*/response.json"))) == 2)
        finally:
            # Not SIGINT, which is ignored by what a shell in the background has started.
            device.terminate()
            said, _ = device.communicate(timeout=20)
    assert said.count("ResponseReady {") == 2
    assert len(list(tmp_path.glob("inbox/*/summary.json"))) == 2


def wait_for(device: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        if device.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the example ended or took too long:\n{device.stdout.read() if device.stdout else ''}")
        time.sleep(0.05)
