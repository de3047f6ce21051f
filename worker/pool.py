"""Processes for heavy work: one file at a time each, killed on timeout, replaced when they die, grow or have served
long. Each leads a group of its own, and what a handler has started is killed with it.

Why not the standard executor: there one process that is killed breaks the pool and fails every job in it, and a
running call cannot be stopped. Here a death costs the attempt that ran in it and nothing else. Each place in the pool
has a keeper, which starts a process, waits for its end and starts the next; only a process that said it is ready is
given work.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

import structlog

from shared.backoff import Backoff
from shared.clock import monotonic
from worker.errors import HandlerCrashed, HandlerFailed, HandlerTimedOut, PoolUnavailable
from worker.handlers.contract import Answer
from worker.memory_watch import family_bytes
from worker.pool_wire import LENGTH_BYTES, MESSAGE_MAX_BYTES, Hello, Order, Report, pack, unpack

__all__ = ["Done", "HandlerPool", "PoolLimits"]

_log = structlog.get_logger(__name__)

# All that a handler needs of the environment; database and keys stay with the worker.
_PASSED_ON: Final = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ")
_SHORT_LIFE_S: Final = 1.0
_LAST_BREATH_S: Final = 1.0
# What the kernel counts towards the bound on memory and what is looked at here are not quite the same.
_MEMORY_SLACK: Final = 1.05


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of one process; it is replaced above `recycle_resident` bytes at rest and after `recycle_after` files."""

    memory: int = 500 * 1000 * 1000
    recycle_resident: int = 250 * 1000 * 1000
    recycle_after: int = 1000
    file_size: int = 512 * 1024 * 1024
    start_s: float = 20.0
    nice: int = 5
    watch_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Done:
    """A handler's answer, which handler it was and how long it took."""

    answer: Answer
    handler: str
    seconds: float


@dataclass(eq=False, slots=True)
class _Process:
    child: asyncio.subprocess.Process
    began: float
    is_ready: bool = False
    was_asked: bool = False
    served: int = 0
    retired: bool = False
    retired_on_purpose: bool = False
    held_too_much: bool = False

    @property
    def usable(self) -> bool:
        return self.is_ready and not self.retired and self.child.returncode is None

    def kill(self) -> None:
        self.retired = True
        if self.child.returncode is None:
            self.kill_group()
            with contextlib.suppress(ProcessLookupError):
                self.child.kill()  # also one that is about to begin its group

    def kill_group(self) -> None:
        """Whoever its handler has started. A group's number is not given out while anybody is in it; for the moment
        after the last of them ended the kernel would have to go once around all numbers."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)


class HandlerPool:
    """`start()`, then `run()` from as many tasks as there are processes; more of them wait their turn."""

    def __init__(
        self,
        size: int,
        *,
        environ: Mapping[str, str],
        limits: PoolLimits | None = None,
        noop: bool = False,
        rand: Random,
        python: str = sys.executable,
    ) -> None:
        self.size = size
        self._limits = limits or PoolLimits()
        self._environ = {name: environ[name] for name in _PASSED_ON if name in environ} | {
            "MALLOC_ARENA_MAX": "2",  # each arena would count against the memory bound
            "OMP_NUM_THREADS": "1",
        }
        self._noop = noop
        self._rand = rand
        self._python = python
        self._idle: asyncio.Queue[_Process] = asyncio.Queue()
        self._all: set[_Process] = set()
        self._busy: set[_Process] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self._watcher: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.kinds: tuple[str, ...] = ()
        self.problem: str | None = "no handler process is ready yet"

    def __repr__(self) -> str:
        return f"HandlerPool({self.ready} of {self.size} ready, {len(self._busy)} busy)"

    @property
    def ready(self) -> int:
        """Processes that serve or could."""
        return sum(process.usable for process in self._all)

    @property
    def busy_pids(self) -> list[int]:
        """The processes that have a file now."""
        return [process.child.pid for process in self._busy]

    @property
    def pids(self) -> list[int]:
        """All processes."""
        return [process.child.pid for process in self._all if process.usable]

    async def start(self, *, wait_s: float = 30.0) -> None:
        """Start all processes and wait for the first that is ready. Raises PoolUnavailable."""
        self._keepers = [asyncio.create_task(self._keep(), name=f"pool-keeper-{n}") for n in range(self.size)]
        self._watcher = asyncio.create_task(self._watch(), name="pool-memory")
        try:
            async with asyncio.timeout(wait_s):
                self._idle.put_nowait(await self._idle.get())
        except TimeoutError:
            raise PoolUnavailable(self.problem) from None

    async def run(self, order: Order, *, timeout_s: float) -> Done:
        """Have a process handle one file; cancelling kills it. One that takes too much memory is killed and answered.

        Raises HandlerFailed, HandlerCrashed, HandlerTimedOut.
        """
        process = await self._take()
        process.was_asked = True
        began = monotonic()
        self._busy.add(process)
        try:
            report = await self._exchange(process, order, timeout_s)
        except HandlerCrashed:
            process.kill()
            if not process.held_too_much:
                raise
            # As when the kernel refuses the memory: the same file would need the same again.
            answer = Answer("too_large", "processing the file needs more memory than a handler may use")
            return Done(answer, order.kind, monotonic() - began)
        except BaseException:
            process.kill()
            raise
        finally:
            self._busy.discard(process)
        process.served += 1
        if self._has_served_long(process, report) and (self.ready > 1 or self.size == 1):
            # One at a time: they serve in turns, so all would go at once, and files wait until the first is back.
            process.retired_on_purpose = True
            process.kill()
        else:
            self._idle.put_nowait(process)
        if report.answer is None:
            raise HandlerFailed(f"handler {report.handler}: {report.error}")
        return Done(report.answer, report.handler, report.seconds)

    async def close(self, *, wait_s: float = 5.0) -> None:
        """Kill every process, whatever it does, and wait for their ends."""
        self._closing.set()
        if self._watcher is not None:
            self._watcher.cancel()
        for process in self._all:
            process.kill()
        if self._keepers:
            # Not cancelled: a keeper that is starting a process would lose sight of it.
            _, late = await asyncio.wait(self._keepers, timeout=wait_s)
            for keeper in late:
                keeper.cancel()

    async def _watch(self) -> None:
        """Kill what holds more memory than it may in ways that the kernel does not count."""
        most = int(self._limits.memory * _MEMORY_SLACK)
        while True:
            await asyncio.sleep(self._limits.watch_s)
            for process in list(self._busy):
                held = family_bytes(process.child.pid, enough=most)
                if held > most and process in self._busy:
                    _log.warning("handler process killed for its memory", pid=process.child.pid, held=held)
                    process.held_too_much = True
                    process.kill()

    def _has_served_long(self, process: _Process, report: Report) -> bool:
        limits = self._limits
        return process.served >= limits.recycle_after or report.resident > limits.recycle_resident

    async def _take(self) -> _Process:
        """The next idle process. Raises PoolUnavailable when there has been none at all for a while."""
        while not self._closing.is_set():
            try:
                async with asyncio.timeout(self._limits.start_s):
                    process = await self._idle.get()
            except TimeoutError:
                if not self.ready:
                    break
                continue
            if process.usable:
                return process
        raise PoolUnavailable(self.problem)

    async def _exchange(self, process: _Process, order: Order, timeout_s: float) -> Report:
        stdin = process.child.stdin
        if stdin is None:
            raise AssertionError("started with pipes")
        try:
            async with asyncio.timeout(timeout_s):
                stdin.write(pack(order))
                await stdin.drain()
                return unpack(await self._read(process), Report)
        except TimeoutError:
            raise HandlerTimedOut(f"the handler did not end within {timeout_s:g} s and was killed") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise HandlerCrashed(await self._how_it_ended(process)) from None
        except ValueError as error:
            raise HandlerCrashed(f"the handler's process answered nonsense: {error}") from None

    async def _read(self, process: _Process) -> bytes:
        stdout = process.child.stdout
        if stdout is None:
            raise AssertionError("started with pipes")
        length = int.from_bytes(await stdout.readexactly(LENGTH_BYTES), "big")
        if length > MESSAGE_MAX_BYTES:
            raise ValueError(f"message of {length} bytes announced")
        return await stdout.readexactly(length)

    async def _how_it_ended(self, process: _Process) -> str:
        # Not killed at once: it has closed its pipe, and killing would hide what it died of.
        try:
            async with asyncio.timeout(_LAST_BREATH_S):
                status = await process.child.wait()
        except TimeoutError:
            process.kill()
            return "the handler's process closed its pipe"
        if status < 0:
            try:
                name = signal.Signals(-status).name
            except ValueError:
                name = str(-status)
            return f"the handler's process was ended by {name}"
        return f"the handler's process exited with status {status}"

    async def _keep(self) -> None:
        """Have a process in this place of the pool, always."""
        backoff = Backoff(self._rand, base=0.2, cap=10.0)
        while not self._closing.is_set():
            try:
                process = await self._spawn()
            except PoolUnavailable as error:
                self.problem = str(error)
                _log.error("handler process does not start", error=str(error))
                await self._pause(backoff.next())
                continue
            try:
                self._idle.put_nowait(process)
                await process.child.wait()
                process.kill_group()
            finally:
                process.kill()
                self._all.discard(process)
            if not process.retired_on_purpose and not self._closing.is_set():
                _log.warning("handler process ended", pid=process.child.pid, status=process.child.returncode)
            # What ended while it had a job ended by that, or with it: the jobs of others need not wait for another.
            if process.was_asked or monotonic() - process.began > _SHORT_LIFE_S:
                backoff.reset()
            else:
                await self._pause(backoff.next())

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _spawn(self) -> _Process:
        limits = self._limits
        arguments = [
            "-W", "ignore", "-m", "worker.pool_process", "--parent", str(os.getpid()), "--memory", str(limits.memory),
            "--file-size", str(limits.file_size), "--nice", str(limits.nice), *(["--noop"] if self._noop else []),
        ]  # fmt: skip
        try:
            child = await asyncio.create_subprocess_exec(
                self._python,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=self._environ,
            )
        except OSError as error:
            raise PoolUnavailable(f"no handler process can be started: {error}") from error
        process = _Process(child, monotonic())
        self._all.add(process)
        if self._closing.is_set():
            process.kill()
        try:
            async with asyncio.timeout(limits.start_s):
                hello = unpack(await self._read(process), Hello)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, ValueError):
            why = await self._how_it_ended(process)
            self._all.discard(process)
            raise PoolUnavailable(f"a handler process did not become ready: {why}") from None
        if not self.kinds:
            for problem in hello.problems:
                _log.error("handler left out", problem=problem)
        self.kinds = tuple(hello.kinds)
        self.problem = None
        process.is_ready = True
        return process
