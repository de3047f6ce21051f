"""The command line: what it offers, and that mistakes are said in a line."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

FLEETWIRE = str(Path(sys.executable).with_name("fleetwire"))
ROOT = Path(__file__).parents[2]
PROCESSES = ["hub", "api", "watcher", "worker", "files"]
COMMANDS = ["up", *PROCESSES, "migrate", "token", "device", "publish", "notice", "demo", "doctor", "log"]


def fleetwire(*arguments: str, cwd: Path = ROOT, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETWIRE_")}
    return subprocess.run(
        [FLEETWIRE, *arguments],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=cwd,
    )


def test_every_command_is_offered() -> None:
    said = fleetwire("--help").stdout
    assert [command for command in COMMANDS if f"\n  {command} " not in said] == []


def test_help_imports_no_server() -> None:
    """What makes it quick: no command's own imports happen before it is chosen."""
    program = "import sys, infra.cli; print({'asyncpg', 'redis', 'starlette', 'httpx', 'uvicorn'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("token", "--device", "Truck-7"), "device_id may hold only"),
        (("token", "--device", "truck-7", "--class", "Big Truck"), "--class"),
        (("token",), "needs --device"),
        (("token", "--scope", "operator"), "needs --subject"),
        (("token", "--scope", "operator", "--subject", "a b"), "needs --subject"),
        (("device", "../truck"), "device_id"),
        (("publish", "truck-7", "[1]"), "DATA must be a JSON object"),
        (("publish", "truck-7", "{"), "DATA is not JSON"),
        (("notice", "--data", "[1]"), "DATA must be a JSON object"),
        (("notice",), "--data"),
        (("doctor", "--wrong"), "No such option"),
    ],
)
def test_a_mistake_is_said_without_a_traceback(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    (tmp_path / "secrets").mkdir()
    done = fleetwire(*arguments, FLEETWIRE_HOME=str(tmp_path))
    assert done.returncode != 0
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_where_nothing_runs_a_command_says_how_to_start_it(tmp_path: Path) -> None:
    for arguments in (("token", "--device", "truck-7"), ("demo",)):
        done = fleetwire(*arguments, FLEETWIRE_HOME=str(tmp_path / "none"))
        assert done.returncode == 2, done
        assert "nothing runs here: start `make up` in another terminal (or set FLEETWIRE_" in done.stderr

    elsewhere = fleetwire("demo", cwd=tmp_path, FLEETWIRE_HOME=str(tmp_path / "none"))
    assert f"start `{FLEETWIRE} up` in another terminal" in elsewhere.stderr


def test_the_doctor_ends_one_where_nothing_runs(tmp_path: Path) -> None:
    done = fleetwire("doctor", FLEETWIRE_HOME=str(tmp_path / "none"))
    assert done.returncode == 1
    assert "BAD  no Fleetwire runs in this home\n       → `make up` starts it" in done.stdout
    assert done.stdout.splitlines()[-1] == "3 notes, 1 thing is bad"


def test_the_version_is_told() -> None:
    assert fleetwire("--version").stdout == f"fleetwire {version('fleetwire')}\n"


def test_a_command_makes_no_home_where_there_is_none(tmp_path: Path) -> None:
    fleetwire("token", "--device", "truck-7", FLEETWIRE_HOME=str(tmp_path / "none"))
    fleetwire("doctor", FLEETWIRE_HOME=str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []
