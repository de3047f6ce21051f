"""Several API processes on one port, kept by a parent that serves nothing itself.

The parent binds one listening socket for each of them with SO_REUSEPORT, so that the kernel spreads connections evenly,
and holds them all: connections that come while a process is started again wait for it, and none is reset. It passes
SIGTERM on, waits until all have left in order, and gives the operations port a single face: ready while one process
is, the metrics of all with a label `worker`. A process that ends unasked, or whose loop answers nothing for `STUCK_S`,
is started again; when that does not help, the parent ends, and whoever supervises it decides.
"""

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

import httpx
import structlog

from api.settings import Settings
from shared.asgi_server import bind
from shared.backoff import Backoff
from shared.clock import monotonic
from shared.lifecycle import PARENT_PID_VARIABLE, Stop
from shared.telemetry.health import OpsServer, Readiness
from shared.telemetry.merged_metrics import merged

__all__ = ["WORKER_VARIABLE", "Workers"]

WORKER_VARIABLE: Final = "FLEETWIRE_API_WORKER"
RESTARTS_MAX: Final = 5
RESTARTS_WITHIN_S: Final = 60.0
STUCK_S: Final = 15.0
START_S: Final = 60.0
_LOOK_S: Final = 1.0
_ANSWER_S: Final = 1.0
_LEAVE_MARGIN_S: Final = 5.0
_SETTINGS_WRONG: Final = 2

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Worker:
    number: int
    listener: socket.socket
    ops: socket.socket
    process: asyncio.subprocess.Process | None = None
    ready: bool = False
    stuck_at: float = 0.0
    status: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.ops.getsockname()[1]}"

    def signal(self, signum: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signum)


class Workers:
    """`run()` is the life of the parent."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], rand: Random, *, stuck_s: float = STUCK_S
    ) -> None:
        self._settings = settings
        self._stuck_s = stuck_s
        self._environ = dict(environ)
        self._rand = rand
        self._workers: list[_Worker] = []
        self._leaving = False
        self._restarts: deque[float] = deque(maxlen=RESTARTS_MAX)
        headers = {"Authorization": f"Bearer {settings.ops_token}"} if settings.ops_token else {}
        self._client = httpx.AsyncClient(timeout=_ANSWER_S, headers=headers, trust_env=False)

    def __repr__(self) -> str:
        return f"Workers({sum(one.ready for one in self._workers)} of {len(self._workers)} ready)"

    async def run(self, stop: Stop) -> int:
        """Until `stop`, or until a process cannot be kept running. The exit status."""
        settings = self._settings
        ops = OpsServer(
            settings.ops_host,
            settings.ops_port,
            process="api",
            readiness=self._readiness,
            token=settings.ops_token,
            metrics=self._metrics,
        )
        await ops.start()
        try:
            self._bind()
            async with asyncio.TaskGroup() as group:
                keeping = [group.create_task(self._keep(one, stop), name=f"api {one.number}") for one in self._workers]
                looking = group.create_task(self._look(), name="looks at workers")
                _log.info("api accepts", host=settings.host, port=self._port, ops_port=ops.port, workers=len(keeping))
                await stop.wait()
                await self._leave()
                looking.cancel()
            return 0 if all(one.status == 0 for one in self._workers) else 1
        finally:
            for one in self._workers:
                one.signal(signal.SIGKILL)
                one.listener.close()
                one.ops.close()
            await self._client.aclose()
            await ops.close()

    @property
    def _port(self) -> int:
        port: int = self._workers[0].listener.getsockname()[1]
        return port

    def _bind(self) -> None:
        """Raises PortBusy."""
        settings = self._settings
        # Sockets that share a port do not notice another owner of it; one that does not share does.
        alone = bind(settings.host, settings.port, setting="FLEETWIRE_API_PORT")
        port = alone.getsockname()[1]
        alone.close()
        for number in range(1, settings.api_workers + 1):
            listener = bind(settings.host, port, setting="FLEETWIRE_API_PORT", shared=True)
            listener.listen(2048)
            self._workers.append(_Worker(number, listener, bind("127.0.0.1", 0, setting="FLEETWIRE_OPS_PORT")))

    async def _keep(self, worker: _Worker, stop: Stop) -> None:
        """Run one process, and again when it ends unasked."""
        backoff = Backoff(self._rand, base=0.2, cap=3.0)
        while not stop.requested:
            worker.process = await self._start(worker)
            # One that has yet to begin gets longer.
            worker.stuck_at = monotonic() + START_S
            worker.status = await worker.process.wait()
            worker.ready = False
            if self._leaving or stop.requested:
                break
            _log.error("an api process ended unasked", worker=worker.number, status=worker.status)
            now = monotonic()
            if worker.status == _SETTINGS_WRONG or self._too_many_restarts(now):
                stop.request("an api process cannot be kept running")
                worker.status = worker.status or 1
                break
            self._restarts.append(now)
            await stop.wait_for(backoff.next())
        worker.ended.set()

    def _too_many_restarts(self, now: float) -> bool:
        return len(self._restarts) == RESTARTS_MAX and now - self._restarts[0] < RESTARTS_WITHIN_S

    async def _start(self, worker: _Worker) -> asyncio.subprocess.Process:
        fds = (worker.listener.fileno(), worker.ops.fileno())
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "api",
            pass_fds=fds,
            # Its own session: Ctrl-C at the terminal comes to the parent alone, who passes it on once.
            start_new_session=True,
            env=self._environ
            | {WORKER_VARIABLE: f"{worker.number},{fds[0]},{fds[1]}", PARENT_PID_VARIABLE: str(os.getpid())},
        )

    async def _look(self) -> None:
        """Ask each process whether it is ready; one whose loop stands still is ended, to be started again."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await asyncio.gather(*(self._look_at(worker) for worker in self._workers))

    async def _look_at(self, worker: _Worker) -> None:
        try:
            answer = await self._client.get(f"{worker.ops_url}/ready")
        except httpx.HTTPError:
            worker.ready = False
            if monotonic() > worker.stuck_at:
                _log.error("an api process does not answer", worker=worker.number)
                worker.signal(signal.SIGKILL)
        else:
            worker.stuck_at = monotonic() + self._stuck_s
            worker.ready = answer.status_code == 200

    async def _leave(self) -> None:
        """Each leaves as it would alone. From now on nobody holds their sockets but they."""
        self._leaving = True
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
            worker.listener.close()
        deadline_s = self._settings.drain_s + self._settings.finish_s + _LEAVE_MARGIN_S
        try:
            async with asyncio.timeout(deadline_s):
                for worker in self._workers:
                    await worker.ended.wait()
        except TimeoutError:
            _log.error("api processes did not leave in time", seconds=deadline_s)
            for worker in self._workers:
                worker.signal(signal.SIGKILL)

    def _readiness(self) -> Readiness:
        ready = [worker.number for worker in self._workers if worker.ready]
        reasons = []
        if self._leaving:
            reasons.append("leaving")
        elif not ready:
            reasons.append("no process is ready")
        return Readiness(not reasons, tuple(reasons), {"workers": len(self._workers), "ready": ready})

    async def _metrics(self) -> bytes:
        answers = await asyncio.gather(
            *(self._client.get(f"{worker.ops_url}/metrics") for worker in self._workers), return_exceptions=True
        )
        return merged(
            {
                str(worker.number): answer.text
                for worker, answer in zip(self._workers, answers, strict=True)
                if isinstance(answer, httpx.Response) and answer.status_code == 200
            }
        )
