"""Real servers for tests: an embedded Postgres or Valkey that a test may kill, stop for a while and start again.

They are children of the test process and die with it, listen on a free port and live in a folder of their own.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from infra.onebox.postgres import EmbeddedPostgres
from infra.onebox.valkey import EmbeddedValkey

T = TypeVar("T")


class ServerProcess:
    """An embedded server that runs. `url` stays the same through kill and start."""

    def __init__(self, server: EmbeddedPostgres | EmbeddedValkey) -> None:
        self.server = server
        self._process: subprocess.Popen[bytes] | None = None
        self._is_paused = False
        self._log = server.home.path / f"{server.name}.log"

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else f"pid {self._process.pid}"
        return f"ServerProcess({self.server.name}, port {self.server.port}, {state})"

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it and wait until it is ready.

        Blocks; a test whose own loop must go on uses launch() and wait_ready().
        """
        self.launch()
        try:
            run_apart(self.server.wait_ready(30))
        except Exception as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from error

    async def wait_ready(self, deadline_s: float = 30) -> None:
        await self.server.wait_ready(deadline_s)

    def launch(self) -> None:
        """Start it and return at once."""
        assert self._process is None, "runs already"
        self.server.prepare()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.server.launch_arguments(),
                cwd="/",
                env=self.server.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """End it in an orderly way."""
        self._end(self.server.stop_signal)

    def kill(self) -> None:
        """kill -9. What it leaves behind is the next start's business."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered. Postgres answers each by a process of its own."""
        os.kill(self.pid, signal.SIGSTOP)  # first, so that it makes no more of them
        for child in _children(self.pid):
            _signal(child, signal.SIGSTOP)
        self._is_paused = True

    def resume(self) -> None:
        for process in [*_children(self.pid), self.pid]:
            _signal(process, signal.SIGCONT)
        self._is_paused = False

    def _end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        if self._is_paused:
            self.resume()  # or its children would stay behind, stopped
        process, self._process = self._process, None
        if process.poll() is not None:
            return
        process.send_signal(signum)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = (entry / "stat").read_text()
                if int(stat[stat.rindex(")") + 2 :].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def _signal(pid: int, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code, in a thread and a loop of its own: the caller's loop may be running."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, work).result()
