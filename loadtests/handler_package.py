"""Somebody writes a handler: the commands of docs/handlers.md, as they stand, in a copy of the project that has no
environment yet; then a worker of that environment answers a file of the new kind, end to end.

The packages come from wherever pip gets them. Everything lies in one temporary folder and is removed with it.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from loadtests.run_folder import run_folder

__all__ = ["main"]

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = Path(__file__).parent / "results"
PAGE: Final = "docs/handlers.md"
INSTALL_S: Final = 900.0
READY_S: Final = 180.0
ANSWER_S: Final = 60.0
DEVICE: Final = "truck-7"


def main(arguments: list[str] | None = None) -> int:
    """0 when the response is what the page promises."""
    parser = argparse.ArgumentParser(prog="loadtests.handler_package", description=__doc__)
    parser.parse_args(arguments)
    began = time.monotonic()
    with run_folder("fleetwire-handler-") as folder:
        copy = folder / "fleetwire"
        _copy(copy)
        for line in commands((copy / PAGE).read_text("utf-8")):
            _say(line)
            subprocess.run(["sh", "-c", line], cwd=copy, env=_environment(folder), check=True, timeout=INSTALL_S)
        installed = time.monotonic()
        found = _ask_a_worker(copy, folder)
        answered = time.monotonic()
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "install_s": round(installed - began, 1),
        "up_and_answer_s": round(answered - installed, 1),
        "response": found,
        "ok": found["handler"] == "checklist" and found["summary"] == {"items": 2, "open": 1},
    }
    print(json.dumps(result))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"handler_package-{datetime.now(UTC):%Y%m%d-%H%M%S}.json").write_text(json.dumps(result, indent=2))
    return 0 if result["ok"] else 1


def commands(page: str) -> list[str]:
    """The lines of the page's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def _copy(to: Path) -> None:
    """What a clone would have, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (source := ROOT / name).is_file():
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)


def _environment(folder: Path) -> dict[str, str]:
    """That of somebody who has set nothing; ports are free ones, so that whatever runs here is not in the way."""
    names = ("API", "HUB", "FILES", "POSTGRES", "VALKEY")
    operations = ("API", "HUB", "WATCHER", "WORKER", "FILES")
    left_out = ("FLEETWIRE_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(left_out)},
        **{f"FLEETWIRE_{name}_PORT": "0" for name in names},
        **{f"FLEETWIRE_{name}_OPS_PORT": "0" for name in operations},
        "PYTHON": os.environ.get("PYTHON", sys.executable if sys.prefix == sys.base_prefix else _base_python()),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FLEETWIRE_HOME": str(folder / "home"),
    }


def _base_python() -> str:
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def _ask_a_worker(copy: Path, folder: Path) -> dict[str, Any]:
    """Start everything, drop a file of the new kind, and read its response."""
    fleetwire = str(copy / ".venv" / "bin" / "fleetwire")
    environment = _environment(folder)
    ready, log_file = folder / "ready.json", folder / "up.log"
    with ready.open("wb") as said, log_file.open("wb") as log:
        up = subprocess.Popen([fleetwire, "up"], cwd=copy, env=environment, stdout=said, stderr=log)
        try:
            _until(lambda: b'{"ready"' in ready.read_bytes(), READY_S, log_file)
            register = [fleetwire, "token", "--device", DEVICE]
            subprocess.run(register, cwd=copy, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
            cloud = folder / "home" / "cloud"
            requests, responses = cloud / "Requests" / DEVICE, cloud / "Responses" / DEVICE
            requests.mkdir(parents=True, exist_ok=True)
            (requests / "van.checklist").write_text("[x] brakes\n[ ] tyres\n")
            _say("van.checklist is in the folder")
            _until(lambda: any(responses.glob("*/response.json")), ANSWER_S, log_file)
            [document] = responses.glob("*/response.json")
            found: dict[str, Any] = json.loads(document.read_bytes())
            assert (document.parent / "open.txt").read_bytes() == b"tyres\n"
            return found
        finally:
            up.send_signal(signal.SIGINT)
            try:
                up.wait(30)
            except subprocess.TimeoutExpired:
                up.kill()
                up.wait()


def _until(condition: Callable[[], bool], deadline_s: float, log_file: Path) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"nothing after {deadline_s:g} s:\n{log_file.read_text('utf-8', 'replace')[-3000:]}")
        time.sleep(0.1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
