"""The Dockerfile, read: what it copies exists, what it starts is ours, who it runs as is nobody special."""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
LINES = [
    line
    for line in (TOP / "infra/docker/Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
COPIED = [
    source for line in LINES if line.startswith("COPY ") and "--from" not in line for source in line.split()[1:-1]
]


def test_everything_that_is_copied_is_there_and_gets_into_the_context() -> None:
    rules = [line for line in (TOP / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    for source in COPIED:
        assert (TOP / source).exists(), source
        assert f"!{source}" in rules, source
    assert rules[0] == "*"
    assert "infra/docker/private" in rules


def test_every_package_is_copied() -> None:
    packages = {path.parent.name for path in TOP.glob("*/__init__.py")} - {"tests", "loadtests"}
    assert packages <= set(COPIED)


def test_only_locked_packages_are_installed_and_the_code_brings_none() -> None:
    installs = [line for line in LINES if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes -r requirements.lock" in installs[0]
    assert "--no-deps --no-build-isolation" in installs[1]
    lock = (TOP / "requirements.lock").read_text("utf-8")
    assert len(re.findall(r"^[a-z0-9._-]+==", lock, re.MULTILINE)) <= lock.count("--hash=sha256:")


def test_it_runs_as_nobody_special_with_our_command() -> None:
    final = LINES[max(n for n, line in enumerate(LINES) if line.startswith("FROM ")) :]
    (user,) = [line.split()[1] for line in final if line.startswith("USER ")]
    assert all(int(part) >= 10_000 for part in user.split(":"))
    assert 'ENTRYPOINT ["fleetwire"]' in final
    assert not [line for line in final if line.startswith("ADD ")]


def test_the_base_image_is_pinned() -> None:
    (argument,) = [line for line in LINES if line.startswith("ARG PYTHON_IMAGE=")]
    assert re.fullmatch(r"ARG PYTHON_IMAGE=python:3\.1[1-9]\.[0-9]+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", argument)
    assert all("${PYTHON_IMAGE}" in line for line in LINES if line.startswith("FROM "))


def test_no_secret_is_ever_committed() -> None:
    ignored = (TOP / "infra/docker/private/.gitignore").read_text("utf-8").splitlines()
    for name in ("token-keys.json", "database.env", "anything"):
        assert any(fnmatch.fnmatch(name, rule) for rule in ignored)


@pytest.mark.parametrize("name", ["Dockerfile", "pgbouncer.Dockerfile", "postgres.Dockerfile"])
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("there is no hadolint for this machine")
    done = subprocess.run([hadolint, TOP / "infra/docker" / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_that_is_compiled_holds_the_time_of_a_build() -> None:
    for name in ("Dockerfile", "postgres.Dockerfile"):
        text = (TOP / "infra/docker" / name).read_text("utf-8").replace("\\\n", " ")
        assert "compileall -q --invalidation-mode unchecked-hash" in text
        for line in text.splitlines():
            assert "pip install" not in line or "--no-compile" in line, line
