"""Processes really started, really signalled: how they stop, and that none outlives its supervisor."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, os, sys
from shared import lifecycle

async def main(stop):
    print("up", flush=True)
    {body}

sys.exit(lifecycle.run(main, environ=os.environ))
"""


class Child:
    """A Python program that runs `body` as its main coroutine."""

    def __init__(self, body: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(body=body)],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,  # communicate() does not see what a buffer has read ahead
        )
        self.output = ""
        self.read_until("up\n")

    def read_until(self, words: str) -> None:
        assert self.process.stdout is not None
        while words not in self.output:
            line = self.process.stdout.readline()
            assert line, self.output
            self.output += line.decode()

    def end(self, deadline_s: float = 10) -> int:
        rest, _ = self.process.communicate(timeout=deadline_s)
        self.output += rest.decode()
        return self.process.returncode


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        if child.process.poll() is None:
            child.process.kill()
            child.process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_process_finish(children: list[Child], signum: signal.Signals) -> None:
    child = Child("await stop.wait(); print('finishing', stop.reason); await asyncio.sleep(0.05); return 7")
    children.append(child)
    child.process.send_signal(signum)
    assert child.end() == 7
    assert f"finishing {signum.name}" in child.output


def test_the_second_signal_ends_it_at_once(children: list[Child]) -> None:
    child = Child("await stop.wait(); print('asked', flush=True); await asyncio.sleep(60)")
    children.append(child)
    child.process.send_signal(signal.SIGTERM)
    child.read_until("asked")
    began = time.monotonic()
    child.process.send_signal(signal.SIGTERM)
    assert child.end() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5


def test_a_signal_does_not_cut_short_what_the_process_was_asked_for_otherwise(children: list[Child]) -> None:
    child = Child("stop.request('drained'); print('asked', flush=True); await asyncio.sleep(0.5); return 7")
    children.append(child)
    child.read_until("asked")
    child.process.send_signal(signal.SIGTERM)
    assert child.end() == 7


def test_a_process_that_fails_says_why_and_ends_with_one(children: list[Child]) -> None:
    child = Child("raise RuntimeError('the reason')")
    children.append(child)
    assert child.end() == 1
    assert "the reason" in child.output


def test_nothing_returned_is_a_good_end(children: list[Child]) -> None:
    child = Child("stop.request('done'); assert await stop.wait_for(10)")
    children.append(child)
    assert child.end() == 0


def test_waiting_ends_after_its_time_when_nobody_asks_to_stop(children: list[Child]) -> None:
    child = Child("return 0 if not await stop.wait_for(0.01) else 3")
    children.append(child)
    assert child.end() == 0


def test_the_open_file_limit_is_raised_and_said(children: list[Child]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    child = Child("import resource; print('soft', resource.getrlimit(resource.RLIMIT_NOFILE)[0])")
    children.append(child)
    assert child.end() == 0
    assert f"soft {min(hard, 1_048_576)}" in child.output
    [line] = [line for line in child.output.splitlines() if "open files allowed" in line]
    assert ("warning" if hard < 4096 else "debug") in line, "aloud only when it is little"


SUPERVISOR = """
import os, subprocess, sys
program = sys.argv[1]
environ = dict(os.environ, FLEETWIRE_PARENT_PID=str(os.getpid()))
child = subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=sys.stdout)
print("pid", child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("is_stopped", [False, True], ids=["running", "stopped"])
def test_a_child_dies_with_its_supervisor_though_that_is_killed(is_stopped: bool) -> None:
    program = PROGRAM.format(body="await asyncio.sleep(60)")
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert supervisor.stdout is not None
    said: list[str] = []
    pid = 0
    try:
        while "up\n" not in said or not pid:
            said.append(supervisor.stdout.readline())
            assert said[-1], said
            if said[-1].startswith("pid"):
                pid = int(said[-1].split()[1])
        if is_stopped:
            os.kill(pid, signal.SIGSTOP)
        supervisor.kill()
        supervisor.wait()
        deadline = time.monotonic() + 5
        while _is_alive(pid):
            assert time.monotonic() < deadline, "the child outlived its supervisor"
            time.sleep(0.01)
    finally:
        supervisor.kill()
        supervisor.wait()
        supervisor.stdout.close()
        if pid and _is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_child_whose_supervisor_is_gone_already_does_not_start() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body="pass")],
        cwd=ROOT,
        env={**os.environ, "FLEETWIRE_PARENT_PID": str(gone.pid)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "up" not in done.stdout


@pytest.mark.parametrize("pid", ["x", "0", "-4", "99999999999"])
def test_a_parent_that_is_no_process_id_is_named(pid: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body="pass")],
        cwd=ROOT,
        env={**os.environ, "FLEETWIRE_PARENT_PID": pid},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "FLEETWIRE_PARENT_PID" in done.stderr


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # reaping is the business of whoever inherits it
