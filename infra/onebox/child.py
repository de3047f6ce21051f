"""One supervised process: started, awaited until ready, started again with backoff, stopped within a deadline.

A child runs in a session of its own and dies with the supervisor (see `spawn`). When it has ended, whatever else is
left in its process group and session is killed too, so that a restart never meets a survivor.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from infra.onebox.errors import ServerNotReady
from infra.onebox.leftovers import kill_session
from infra.onebox.log_lines import LINE_MAX, LogLines
from shared.backoff import Backoff
from shared.clock import monotonic

__all__ = ["Child", "ChildSpec", "State"]

State = Literal["new", "starting", "ready", "waiting", "stopped"]

START_EXITS_MAX: Final = 3
STEADY_AFTER_S: Final = 30.0
READY_DEADLINE_S: Final = 60.0
_PIPE_LIMIT: Final = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What to run and how to know that it works. `prepare` blocks and runs in a thread before every start."""

    name: str
    arguments: Callable[[], list[str]]
    environment: Mapping[str, str]
    wait_ready: Callable[[], Awaitable[None]]
    prepare: Callable[[], object] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    folder: str | None = None


class Child:
    """Keeps one process running. `start()` begins, `wait_ready()` waits for the first time, `stop()` ends."""

    def __init__(self, spec: ChildSpec, lines: LogLines, rand: Random) -> None:
        self.spec = spec
        self.state: State = "new"
        self.restarts = 0
        self._lines = lines
        self._backoff = Backoff(rand, base=0.2, cap=10.0)
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Child({self.spec.name}, {self.state}, pid {self.pid}, {self.restarts} restarts)"

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Begin to keep the process running. Call it on the main thread: the kernel watches the thread that forks."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")

    async def wait_ready(self) -> None:
        """Return when the process is ready for the first time. Raises ServerNotReady with its last lines."""
        await asyncio.shield(self._first_ready)

    async def stop(self, deadline_s: float) -> None:
        """Ask the process to end, once, and kill it when it does not in time.

        A second call only shortens the time: our processes take a second signal for the wish to end without order.
        """
        asked = self._stopping.is_set()
        self._stopping.set()
        if self._task is None:
            return
        process = self._process
        if process is not None and process.returncode is None and not asked:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.spec.stop_signal)
                process.send_signal(signal.SIGCONT)  # one that is stopped would not hear the other
        done, _ = await asyncio.wait([self._task], timeout=deadline_s)
        if not done:
            self._say(f"did not end within {deadline_s:.0f} s, killed")
            self._kill_group()
            await asyncio.wait([self._task], timeout=2.0)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.state = "stopped"

    async def _keep(self) -> None:
        try:
            while not self._stopping.is_set():
                began = monotonic()
                try:
                    what = await self._run_once()
                except Exception as error:
                    if not self._first_ready.done():
                        raise
                    what = f"cannot be started: {error}"  # now: it ran before, and the reason may pass
                if self._stopping.is_set():
                    return
                self.restarts += 1
                if not self._first_ready.done() and self.restarts >= START_EXITS_MAX:
                    self._fail(f"{self.spec.name} does not start: it {what}")
                    return
                if monotonic() - began > STEADY_AFTER_S:
                    self._backoff.reset()
                delay = self._backoff.next()
                self.state = "waiting"
                self._say(f"{what}; starting it again in {delay:.1f} s")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._stopping.wait()
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            self._fail(f"{self.spec.name} does not start: {error}")
        finally:
            self.state = "stopped"

    async def _run_once(self) -> str:
        """Start the process, wait until it ends, and say how it ended."""
        self.state = "starting"
        if self.spec.prepare is not None:
            await asyncio.to_thread(self.spec.prepare)
        output, given_output = os.pipe()
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *self.spec.arguments(),
                cwd=self.spec.folder,
                env=dict(self.spec.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=given_output,
                stderr=given_output,
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(given_output)
        pump = asyncio.create_task(self._pump(output))
        watch = asyncio.create_task(self._watch_ready())
        try:
            await process.wait()
        finally:
            watch.cancel()
            if process.returncode is None:
                self._kill_group()
                await process.wait()
            self._kill_group()
            kill_session(process.pid)
            await asyncio.wait([pump], timeout=1.0)
            pump.cancel()
            await asyncio.gather(pump, watch, return_exceptions=True)
        return _how_it_ended(process.returncode)

    async def _watch_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_DEADLINE_S):
                await self.spec.wait_ready()
        except (TimeoutError, ServerNotReady) as error:
            reason = str(error) or f"not ready within {READY_DEADLINE_S:.0f} s"
            if not self._first_ready.done():
                self._fail(f"{self.spec.name}: {reason}")
            else:
                self._say(f"runs again and is not ready: {reason}")
            return
        self.state = "ready"
        if not self._first_ready.done():
            self._first_ready.set_result(None)
        elif self.restarts:
            self._say("is ready again")

    async def _pump(self, output: int) -> None:
        """Pass lines on. A line without end is passed on in pieces, so that it costs no more memory than one piece.

        The pipe is ours and not the subprocess object's, whose `wait()` would also wait until whatever the process
        started has closed it.
        """
        stream = asyncio.StreamReader(limit=_PIPE_LIMIT)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(output, "rb", 0)
        )
        try:
            await self._pass_lines_on(stream)
        finally:
            transport.close()

    async def _pass_lines_on(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    self._say(error.partial.decode("utf-8", "replace"))
                return
            except asyncio.LimitOverrunError:
                line = await stream.read(LINE_MAX)
            self._say(line.decode("utf-8", "replace").rstrip("\n"))

    def _kill_group(self) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _say(self, line: str) -> None:
        self._lines.say(self.spec.name, line)

    def _fail(self, message: str) -> None:
        if not self._first_ready.done():
            said = "".join(f"\n    {line}" for line in self._lines.tail(self.spec.name)[-12:])
            self._first_ready.set_exception(ServerNotReady(f"{message}{said}"))


def _how_it_ended(status: int | None) -> str:
    if status is None:
        return "ended"
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
