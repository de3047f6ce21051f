"""`fleetwire up` as people run it: whole, with real processes, on free ports in a home of its own."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.onebox.home import Home
from tests.infra.onebox.test_spawn import wait_gone

FLEETWIRE = str(Path(sys.executable).with_name("fleetwire"))
PORTS = ("API", "HUB", "FILES", "POSTGRES", "VALKEY", "API_OPS", "HUB_OPS", "WATCHER_OPS", "WORKER_OPS", "FILES_OPS")
READY_DEADLINE_S = 45.0

pytestmark = pytest.mark.processes


def environment(home: Home, **settings: str) -> dict[str, str]:
    """Only what a fresh shell has, and any free ports."""
    ours = {f"FLEETWIRE_{name}_PORT": "0" for name in PORTS}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **ours, "FLEETWIRE_HOME": str(home.path), **settings}


class Up:
    """A `fleetwire up` that runs."""

    def __init__(self, home: Home, *arguments: str, **settings: str) -> None:
        self.home = home
        self.environment = environment(home, **settings)
        self.log = home.path / "up.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [FLEETWIRE, "up", *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=log
            )

    def wait_ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], READY_DEADLINE_S)[0], self.said()
        line = self.process.stdout.readline()
        assert line, self.said()
        ready: dict[str, Any] = json.loads(line)
        return ready

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [FLEETWIRE, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.home.path,
        )

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")[-8000:]

    def family(self) -> dict[int, str]:
        """Every process that descends from it, by pid, with its command line."""
        found: dict[int, str] = {}
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += [int(child) for child in (task / "children").read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[pid] = command.strip()
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running(home: Home, *arguments: str, **settings: str) -> Iterator[Up]:
    up = Up(home, *arguments, **settings)
    try:
        yield up
    finally:
        up.end()


def wait_all_gone(family: dict[int, str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for pid in family:
        wait_gone(pid, max(0.0, deadline - time.monotonic()))


def until(condition: Callable[[], object], seconds: float, up: Up) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, up.said()
        time.sleep(0.05)


@pytest.mark.timeout(120)
def test_it_becomes_ready_answers_files_and_stops_cleanly(home: Home) -> None:
    with running(home, "--devices", "3", FLEETWIRE_HUB_CAPACTY="9") as up:
        ready = up.wait_ready()
        assert ready["ready"] is True
        assert ready["api"].startswith("http://127.0.0.1:")
        assert len(ready["hubs"]) == 2
        assert Path(ready["cloud"]) == home.path / "cloud"
        assert "FLEETWIRE_HUB_CAPACTY has no effect: there is no such setting; FLEETWIRE_HUB_CAPACITY is" in up.said()
        assert "Ctrl-C stops everything" in up.said()  # said before the line for programs, not after it

        demo = up.command("demo", "--timeout", "40")
        assert demo.returncode == 0, demo.stderr + up.said()
        for stage in ("detected", "recorded", "published", "received", "acked"):
            assert stage in demo.stdout

        token = up.command("token", "--device", "truck-7", "--class", "truck")
        assert token.returncode == 0, token.stderr
        assert token.stdout.count(".") == 2
        assert token.stdout.count("\n") == 1
        published = up.command("publish", "truck-7", '{"note": "hello"}', "--key", "once")
        assert json.loads(published.stdout)["status"] == "recorded", published.stderr
        again = up.command("publish", "truck-7", '{"note": "hello"}', "--key", "once")
        assert json.loads(again.stdout)["status"] == "duplicate", again.stderr
        device = up.command("device", "truck-7", "--count", "1")
        assert "Message" in device.stdout, device.stderr
        conflict = up.command("publish", "truck-7", '{"note": "other"}', "--key", "once")
        assert conflict.returncode == 1
        assert "published with this --key before" in conflict.stderr
        nobody = up.command("publish", "truck-404", "{}")
        assert f"`{FLEETWIRE} token --device truck-404` does" in nobody.stderr

        doctor = up.command("doctor")
        assert doctor.returncode == 0, doctor.stdout
        assert "hub-2 is ready" in doctor.stdout

        family = up.family()
        assert len(family) >= 10
        began = time.monotonic()
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(12) == 0, up.said()
        assert time.monotonic() - began < 10
        assert "before=ok" not in up.said()  # leaving puts nothing in doubt
        assert re.search(r"worker   │ .* job done request=stock-\w+\.csv outcome=processed .*total_ms=\d+", up.said())
        wait_all_gone(family, 0.5)
        assert not (home.run / "up.json").exists()


@pytest.mark.timeout(150)
def test_after_a_kill_nothing_is_left_and_the_next_start_has_the_data(home: Home) -> None:
    with running(home) as up:
        up.wait_ready()
        assert up.command("token", "--device", "truck-9", "--class", "office").returncode == 0
        family = up.family()
        os.kill(next(pid for pid, command in family.items() if " -m worker" in command), signal.SIGSTOP)
        up.process.kill()
        wait_all_gone(family, 5.0)

    with running(home) as up:
        up.wait_ready()
        assert "1 device," in up.command("doctor").stdout
        hub = next(pid for pid, command in up.family().items() if " -m hub" in command)
        os.kill(hub, signal.SIGKILL)
        until(lambda: "hub-1    │ is ready again" in up.said() or "hub-2    │ is ready again" in up.said(), 20, up)
        postgres = next(pid for pid, command in up.family().items() if "bin/postgres -D" in command)
        os.kill(postgres, signal.SIGKILL)
        until(lambda: "postgres │ is ready again" in up.said(), 20, up)
        until(lambda: up.command("doctor").returncode == 0, 20, up)
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(12) == 0, up.said()


@pytest.mark.timeout(120)
def test_hubs_are_added_for_devices_and_workers_for_each_queue_and_all_of_them_stop_in_time(home: Home) -> None:
    settings = {"FLEETWIRE_SCALE_TARGET": "8", "FLEETWIRE_SCALE_PERIOD_S": "0.2", "FLEETWIRE_SCALE_MAX": "3"}
    settings["FLEETWIRE_SCALE_WORKERS_MIN"] = "2"
    with running(home, "--autoscale", "--devices", "20", **settings) as up:
        assert len(up.wait_ready()["hubs"]) == 1
        until(lambda: "hub-3 is ready and takes its devices" in up.said(), 40, up)
        assert "adding a hub: 20 devices on 1 hub, 20 each (target 8)" in up.said()
        until(lambda: "worker-2 is ready and takes jobs" in up.said(), 40, up)
        until(lambda: "worker-ai-1 is ready and takes jobs" in up.said(), 40, up)
        until(lambda: "hub-3 is ready" in (said := up.command("doctor").stdout) and "worker-ai-1" in said, 20, up)
        family = up.family()
        began = time.monotonic()
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(12) == 0, up.said()
        assert time.monotonic() - began < 10
        wait_all_gone(family, 0.5)


def test_a_second_one_in_the_same_home_is_refused_and_a_taken_port_is_named(home: Home) -> None:
    with home.lock(), running(home) as up:
        assert up.process.wait(20) == 1
        assert "fleetwire is already running" in up.said()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(home, FLEETWIRE_API_PORT=str(port)) as up:
            assert up.process.wait(20) == 1
            assert f"port {port} for the API is taken: set FLEETWIRE_API_PORT" in up.said()


def test_wrong_settings_are_all_said_before_anything_starts(home: Home) -> None:
    with running(home, FLEETWIRE_DB_POOL_MAX="none", FLEETWIRE_LOG_LEVEL="loud") as up:
        assert up.process.wait(20) == 1
        assert "FLEETWIRE_DB_POOL_MAX" in up.said()
        assert "FLEETWIRE_LOG_LEVEL" in up.said()
        assert "stopped" not in up.said()
        assert "postgres │" not in up.said()
    with running(home, "--autoscale", FLEETWIRE_SCALE_MIN="3", FLEETWIRE_SCALE_MAX="2") as up:
        assert up.process.wait(20) == 2
        assert "FLEETWIRE_SCALE_MIN=3 is wrong: it is above FLEETWIRE_SCALE_MAX=2" in up.said()


def test_pools_that_postgres_cannot_serve_are_refused(home: Home) -> None:
    with running(home, FLEETWIRE_DB_POOL_MAX="200") as up:
        assert up.process.wait(20) == 1
        assert "FLEETWIRE_DB_POOL_MAX is too large" in up.said()
