"""Hands small jobs to a process of the API's own while nothing carries hints, so that they do not wait for a poll.

The job is in its queue already, and stays there until somebody claims it: being handed over is a hint, too, and nothing
is lost when it comes to nothing. The process (`worker/small_jobs.py`) is started when hints have been away for a moment
and ended when they have been back for a while; at most so many jobs are with it at once, and the rest are left to the
workers' polling. The API itself computes nothing and waits for nothing of it.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final
from uuid import UUID

import structlog

from shared.backoff import Backoff
from shared.clock import monotonic
from shared.lifecycle import PARENT_PID_VARIABLE
from shared.settings import bounded_int, setting
from shared.small_job_settings import passed_on
from shared.telemetry.metrics import API_SMALL_JOBS

__all__ = ["SmallJobSettings", "SmallJobs"]

_log = structlog.get_logger(__name__)

_PROGRAM: Final = ("-m", "worker.small_jobs")
_LOOK_S: Final = 0.25
_START_S: Final = 30.0
_KEEP_S: Final = 30.0
# Longer than the process gives a job: then it is stuck.
_STUCK_S: Final = 30.0
_PARTING_S: Final = 1.5
_KINDS_MAX: Final = 50


def _kinds(raw: str) -> frozenset[str]:
    kinds = frozenset(kind.strip() for kind in raw.split(",") if kind.strip())
    if not 1 <= len(kinds) <= _KINDS_MAX or any(len(kind) > 64 for kind in kinds):
        raise ValueError(f"not 1 to {_KINDS_MAX} kinds separated by commas")
    return kinds


@dataclass(frozen=True, kw_only=True)
class SmallJobSettings:
    """Whether the API does small jobs by itself while nothing carries hints."""

    small_jobs: int = setting(
        "FLEETWIRE_API_SMALL_JOBS",
        0,
        help="Jobs without files that each API process does at once while no hints can be sent; 0: none.",
        parse=bounded_int(0, 64),
    )
    small_kinds: frozenset[str] = setting(
        "FLEETWIRE_API_SMALL_KINDS",
        frozenset({"ping"}),
        help="Kinds of those jobs, with commas. Their handlers must be small ones.",
        parse=_kinds,
    )


class SmallJobs:
    """`offer()` after the hint; `run()` keeps the process while it is needed; `close()` ends it."""

    def __init__(
        self,
        settings: SmallJobSettings,
        *,
        hints_go_out: Callable[[], bool],
        environ: Mapping[str, str],
        rand: Random,
        clock: Callable[[], float] = monotonic,
        program: Sequence[str] = _PROGRAM,
    ) -> None:
        """`environ` is the API's own; `program` is what Python is told to run."""
        self._program = program
        self._most = settings.small_jobs
        self._kinds = settings.small_kinds
        self._hints_go_out = hints_go_out
        self._environ = passed_on(environ) | {
            PARENT_PID_VARIABLE: str(os.getpid()),
            "FLEETWIRE_DB_POOL_MIN": "0",
            "FLEETWIRE_DB_POOL_MAX": "2",
        }
        self._clock = clock
        self._backoff = Backoff(rand, base=0.5, cap=20.0)
        self._process: asyncio.subprocess.Process | None = None
        self._is_ready = False
        self._held: dict[UUID, float] = {}
        self._keep_until = 0.0
        self._outcomes = {one: API_SMALL_JOBS.labels(one) for one in ("handed", "full", "not_ready")}

    def __repr__(self) -> str:
        state = "ready" if self._is_ready else "not ready"
        return f"SmallJobs({state}, {len(self._held)} of {self._most} held)"

    @property
    def ready(self) -> bool:
        """Whether there is a process that takes jobs."""
        return self._is_ready

    @property
    def held(self) -> int:
        """Jobs that are with the process now."""
        return len(self._held)

    def offer(self, job_id: UUID, kind: str) -> bool:
        """Hand a committed job over, if no hint of it goes out, it is small and there is room. Never waits."""
        if not self._most or kind not in self._kinds or self._hints_go_out():
            return False
        process = self._process
        if process is None or process.stdin is None or not self._is_ready or process.stdin.is_closing():
            self._outcomes["not_ready"].inc()
            return False
        if job_id not in self._held and len(self._held) >= self._most:
            self._outcomes["full"].inc()
            return False
        self._held[job_id] = self._clock() + _STUCK_S
        process.stdin.write(f"{job_id}\n".encode())  # at most so many short lines wait in the pipe
        self._outcomes["handed"].inc()
        return True

    async def run(self) -> None:
        """Until cancelled."""
        if not self._most:
            await asyncio.Event().wait()
        try:
            while True:
                await self._until_needed()
                try:
                    await self._keep_process()
                except (OSError, TimeoutError) as error:
                    _log.warning("no process for small jobs", error=f"{type(error).__name__}: {error}")
                finally:
                    await self._end_process()
                if self._clock() < self._keep_until:  # it ended though it is needed
                    await asyncio.sleep(self._backoff.next())
        finally:
            await self._end_process()

    async def _until_needed(self) -> None:
        """Looked at twice: while the API starts there are no hints for a moment, too."""
        seen = 0
        while seen < 2:
            await asyncio.sleep(_LOOK_S)
            seen = seen + 1 if self._is_needed() else 0

    def _is_needed(self) -> bool:
        now = self._clock()
        if not self._hints_go_out():
            self._keep_until = now + (_KEEP_S if self._is_ready else _LOOK_S)
        return now <= self._keep_until

    async def _keep_process(self) -> None:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._program,
            str(self._most),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environ,
        )
        assert process.stdout is not None, "it was asked for"
        async with asyncio.timeout(_START_S):
            if await process.stdout.readline() != b"ready\n":
                raise OSError("it ended before it was ready")
        _log.info("small jobs are done here while no hints go out", pid=process.pid)
        self._is_ready = True
        hearing = asyncio.create_task(self._hear(process.stdout), name="small jobs")
        try:
            while self._is_needed() or self._held:
                await asyncio.wait([hearing], timeout=_LOOK_S)
                if hearing.done():
                    raise OSError("it ended")
                if any(until < self._clock() for until in self._held.values()):
                    raise TimeoutError("it does not answer")
        finally:
            hearing.cancel()

    async def _hear(self, lines: asyncio.StreamReader) -> None:
        with suppress(ValueError):  # a line without an end: nobody understands it any more
            while line := await lines.readline():
                with suppress(ValueError):  # something that a handler printed
                    self._held.pop(UUID(line.decode("ascii", "replace").strip()), None)
                    self._backoff.reset()

    async def _end_process(self) -> None:
        """What it holds is left to it for a moment, then to the leases."""
        process, self._process, self._is_ready = self._process, None, False
        self._held.clear()
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_PARTING_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.kill()
            raise
