"""The peers' side: each installed for the run, with a database of its own on the Postgres that ours is measured on.

What a peer does for a job is less: it queues it, takes it, runs a coroutine that does nothing and writes that it is
done. It keeps no log of events, reserves no response and publishes nothing.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.onebox.spawn import launch_arguments
from loadtests.driver.latency import Latencies
from loadtests.jobs_bench.ours import Drained, Shape
from loadtests.process import tree_cpu_seconds
from loadtests.stand import Stand

__all__ = ["PEERS", "Peer"]

PEERS: Final = ("pgqueuer", "procrastinate")
_PROGRAMS: Final = Path(__file__).parent / "peers"
_DEADLINE_S: Final = 600.0
_SETTLE_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them. `python` is that of the throw-away environment."""

    name: str
    python: Path
    stand: Stand

    async def prepare(self) -> None:
        """A database with its tables."""
        await self.stand.query(f"CREATE DATABASE {self.name}")
        self._ask("prepare")

    def drain(self, shape: Shape) -> Drained:
        """As our own side does it."""
        return self._measured(shape.jobs, shape.claim, "drain", shape.jobs, shape.batch, shape.senders, shape.ahead)[0]

    def one_by_one(self, count: int) -> tuple[Drained, Latencies]:
        """As our own side does it."""
        drained, waited = self._measured(count, 10, "single", count)
        begun = Latencies()
        for milliseconds in waited:
            begun.add(milliseconds)
        return drained, begun

    def _measured(self, jobs: int, batch: int, *ask: object) -> tuple[Drained, list[float]]:
        postgres = self.stand.pids["postgres"]
        with self._working(batch) as worker:
            before = tree_cpu_seconds(worker.pid), tree_cpu_seconds(postgres)
            seconds = float(self._ask(*ask))
            spent = tree_cpu_seconds(worker.pid) - before[0], tree_cpu_seconds(postgres) - before[1]
            worker.terminate()
            waited = json.loads(worker.communicate(timeout=30)[0])
        wrong = [] if len(waited) == jobs else [f"{jobs} jobs queued, {len(waited)} begun"]
        return Drained(jobs, seconds, *spent, wrong), waited

    @contextmanager
    def _working(self, batch: int) -> Iterator["subprocess.Popen[str]"]:
        with (self.stand.folder / f"{self.name}.log").open("ab") as log:
            process = subprocess.Popen(
                launch_arguments(self._command("work", batch)),
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                text=True,
            )
        try:
            time.sleep(_SETTLE_S)
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} does not start: see its log\n{self._log()}")
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def _ask(self, *ask: object) -> Any:
        done = subprocess.run(
            self._command(*ask),
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.name} failed:\n{done.stderr[-1500:]}\n{self._log()}")
        return json.loads(done.stdout) if done.stdout else None

    def _command(self, *ask: object) -> list[str]:
        return [str(self.python), str(_PROGRAMS / f"{self.name}_side.py"), *(str(one) for one in ask)]

    def _environment(self) -> dict[str, str]:
        url = f"{self.stand.postgres.url.rpartition('/')[0]}/{self.name}"
        return {"PATH": os.environ.get("PATH", os.defpath), "PEER_DATABASE_URL": url}

    def _log(self) -> str:
        file = self.stand.folder / f"{self.name}.log"
        return file.read_text("utf-8", "replace")[-1500:] if file.exists() else ""
