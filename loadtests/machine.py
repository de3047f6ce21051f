"""A whole Fleetwire for one run: `fleetwire up` in a temporary home on free ports, with its processes by name.

Pids come from /proc, by parent and by the name each process was given, so that exactly the processes of this run are
stopped.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from infra.onebox.home import Home
from infra.onebox.postgres import EmbeddedPostgres
from infra.onebox.spawn import launch_arguments
from infra.onebox.valkey import EmbeddedValkey
from loadtests.ports import free_port
from loadtests.process import start_python
from loadtests.run_folder import run_folder
from shared.keys import read_key_ring
from shared.tokens import KeyRing

__all__ = ["Machine", "running_machine"]

START_DEADLINE_S: Final = 120.0
_PACKAGES: Final = ("api", "files", "hub", "watcher", "worker")


class Machine:
    """Fleetwire on one machine, running. Names are hub-1, hub-2, watcher-1, worker-1, api, files, postgres, valkey."""

    def __init__(self, folder: Path, settings: Mapping[str, str], hubs: int, *options: str) -> None:
        """`options` are more of those of `fleetwire up`."""
        self.folder = folder
        home = self.home = Home(folder / "home")
        self._postgres = EmbeddedPostgres(home, port=free_port())
        self._valkey = EmbeddedValkey(home, port=free_port())
        environment = {
            "FLEETWIRE_HOME": str(home.path),
            "FLEETWIRE_POSTGRES_PORT": str(self._postgres.port),
            "FLEETWIRE_VALKEY_PORT": str(self._valkey.port),
            **{f"FLEETWIRE_{name}_PORT": "0" for name in ("API", "HUB", "FILES")},
            **{f"FLEETWIRE_{name}_OPS_PORT": "0" for name in ("API", "HUB", "WATCHER", "WORKER", "FILES")},
            "FLEETWIRE_LOG_LEVEL": "info",
            # What is measured is the machine, not its limits.
            "FLEETWIRE_API_RATE_LIMITS": "off",
            **settings,
        }
        command = [str(Path(sys.executable).with_name("fleetwire")), "up", "--hubs", str(hubs), *options]
        self._log = (folder / "up.log").open("wb")
        self.process = subprocess.Popen(
            launch_arguments(command),
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={name: value for name, value in os.environ.items() if not name.startswith("FLEETWIRE_")} | environment,
            cwd=folder,
        )
        self._extra: list[subprocess.Popen[str]] = []
        self._paused: set[int] = set()
        try:
            ready = self._wait_ready()
        except BaseException:
            self.stop()
            raise
        self.api: str = ready["api"]
        self.hubs: list[str] = ready["hubs"]
        self.cloud = Path(ready["cloud"])
        self.database_url = self._postgres.url
        self.redis_url = self._valkey.url

    def _wait_ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        end, text = time.monotonic() + START_DEADLINE_S, b""
        while time.monotonic() < end and self.process.poll() is None:
            text += self.process.stdout.read() or b""
            for line in text.splitlines(keepends=True):
                if line.startswith(b'{"ready"') and line.endswith(b"\n"):
                    ready: dict[str, Any] = json.loads(line)
                    return ready
            time.sleep(0.05)
        raise RuntimeError(f"fleetwire up did not get ready: see {self.folder}/up.log\n{self.log()[-3000:]}")

    def log(self) -> str:
        """What the processes said so far."""
        return (self.folder / "up.log").read_text("utf-8", "replace")

    @property
    def keys(self) -> KeyRing:
        """The ring that signs tokens of this machine."""
        environment = _environment(self.pid("api"))
        file = environment.get("FLEETWIRE_TOKEN_KEYS_FILE")
        return read_key_ring(Path(file) if file else None, environment.get("FLEETWIRE_TOKEN_KEYS"))

    def token(self, subject: str, *scopes: str, lifetime_s: float = 86400, device_class: str | None = None) -> str:
        """A bearer token."""
        return self.keys.mint(
            subject=subject, scopes=frozenset(scopes), now=time.time(), lifetime_s=lifetime_s, device_class=device_class
        )

    def ops_port(self, name: str) -> int:
        """The operations port of a process."""
        return int(_environment(self.pid(name))["FLEETWIRE_OPS_PORT"])

    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        found = {}
        parents = dict(_parents())
        roots = {self.process.pid, *(process.pid for process in self._extra)}
        for pid, parent in parents.items():
            above = pid
            while above in parents and above not in roots:
                above = parents[above]
            if above in roots and (name := _name_of(pid)) is not None and _name_of(parent) != name:
                found[name] = pid
        return found

    def pid(self, name: str, deadline_s: float = 30.0) -> int:
        """The pid of a process, waited for while it is being restarted."""
        end = time.monotonic() + deadline_s
        while (pid := self.pids().get(name)) is None:
            if time.monotonic() > end:
                raise RuntimeError(f"no process named {name}: there are {', '.join(sorted(self.pids()))}")
            time.sleep(0.02)
        return pid

    def kill(self, name: str) -> int:
        """kill -9. The supervisor starts it again."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def pause(self, name: str) -> int:
        """SIGSTOP the process and everything below it."""
        pid = self.pid(name)
        for one in (pid, *_below(pid)):
            self._paused.add(one)
            os.kill(one, signal.SIGSTOP)
        return pid

    def resume(self, pid: int) -> None:
        """SIGCONT what was stopped with `pid`, if it still lives."""
        for one in (pid, *_below(pid)):
            self._paused.discard(one)
            try:
                os.kill(one, signal.SIGCONT)
            except ProcessLookupError:
                continue

    def add(self, like: str, package: str, **settings: str) -> "subprocess.Popen[str]":
        """Start one more process beside `like`, with its environment and other names. It is not restarted."""
        environment = _environment(self.pid(like)) | {"FLEETWIRE_PARENT_PID": str(os.getpid())} | settings
        with (self.folder / "extra.log").open("ab") as log:
            self._extra.append(start_python(package, environ=environment, log=log))
        return self._extra[-1]

    def redis(self) -> "redis.Redis":
        """A client of the machine's Redis."""
        return redis.Redis.from_url(self.redis_url, socket_timeout=5)

    def stop(self) -> float:
        """Ctrl-C, and how many seconds it took."""
        for pid in tuple(self._paused):
            self.resume(pid)
        start = time.monotonic()
        for process in self._extra:
            process.terminate()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for process in self._extra:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()
        return time.monotonic() - start


@contextmanager
def running_machine(*options: str, hubs: int = 2, keep: bool = False, **settings: str) -> Iterator[Machine]:
    """A machine for the length of a block. Its folder is removed, unless `keep` or the block failed."""
    with run_folder("fleetwire-run-", keep=keep, keep_failed=True) as folder:
        machine = Machine(folder, settings, hubs, *options)
        try:
            yield machine
        finally:
            machine.stop()


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            yield int(entry.name), int(stat[stat.rindex(")") + 2 :].split()[1])


def _below(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found, queue = [], [pid]
    while queue:
        for child in children.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found


def _name_of(pid: int) -> str | None:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    # Both servers write what they do or where they listen behind their name.
    program = Path(os.fsdecode(command[0]).split(" ")[0]).name
    if program in ("valkey-server", "redis-server"):
        return "valkey"
    if program in ("postgres", "postgres:"):
        return "postgres"
    if b"-m" not in command:
        return None
    package = os.fsdecode(command[command.index(b"-m") + 1])
    if package not in _PACKAGES:
        return None
    environment = _environment(pid)
    named = environment.get(f"FLEETWIRE_{package.upper()}_NAME")
    return named or package


def _environment(pid: int) -> dict[str, str]:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(os.fsdecode(entry).split("=", 1) for entry in raw.split(b"\0") if b"=" in entry)
