"""Settings of a worker."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from shared.cloud.provider_settings import ProviderSettings
from shared.cloud.settings import CloudSettings
from shared.cpus import available_cpus
from shared.hint_servers import QueueSettings
from shared.job_kinds import QUEUES, JobKindSettings
from shared.settings import boolean, bounded_float, bounded_int, choice, path, setting, text
from shared.store.log import Retention
from shared.store.settings import DatabaseSettings
from shared.telemetry.health import OpsSettings
from shared.telemetry.logs import LogSettings
from shared.telemetry.traces import TraceSettings
from worker.handlers.photo_options import sizes_problem
from worker.model_settings import ModelSettings

__all__ = ["Settings"]

_MB = 1_000_000


def _queues(raw: str) -> tuple[str, ...]:
    queues = tuple(dict.fromkeys(part.strip() for part in raw.split(",") if part.strip()))
    if not 1 <= len(queues) <= 16 or any(len(queue) > 64 or not queue.isascii() for queue in queues):
        raise ValueError("not 1 to 16 names separated by commas")
    return queues


def _options(raw: str) -> dict[str, Any]:
    try:
        options = json.loads(raw)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(options, dict) or not all(isinstance(v, bool | int | float | str) for v in options.values()):
        raise ValueError('not a JSON object of plain values, for example {"table.max_columns": 500}')
    return options


@dataclass(frozen=True, kw_only=True)
class Settings(
    DatabaseSettings,
    QueueSettings,
    JobKindSettings,
    CloudSettings,
    ProviderSettings,
    LogSettings,
    TraceSettings,
    OpsSettings,
    ModelSettings,
):
    """Everything a worker can be told. Durations are seconds."""

    name: str = setting("FLEETWIRE_WORKER_NAME", "worker-1", help="Name of this worker.", parse=text(max_length=64))
    queues: tuple[str, ...] = setting(
        "FLEETWIRE_WORKER_QUEUES", QUEUES, help="Queues to take jobs from, with commas.", parse=_queues
    )
    processes: int = setting(
        "FLEETWIRE_WORKER_PROCESSES",
        0,
        help="Processes that run handlers; 0 is one for each CPU that the worker may use.",
        parse=bounded_int(0, 256),
    )
    concurrency: int = setting(
        "FLEETWIRE_WORKER_CONCURRENCY",
        8,
        help="Jobs at work at once; those beyond the processes read, wait or write.",
        parse=bounded_int(1, 1024),
    )
    device_running: int = setting(
        "FLEETWIRE_WORKER_DEVICE_RUNNING",
        6,
        help="Jobs of one device that run at once in a queue, by all workers; 0: no bound.",
        parse=bounded_int(0, 100_000),
    )
    claim: int = setting(
        "FLEETWIRE_WORKER_CLAIM", 50, help="Jobs taken by one claim, at most.", parse=bounded_int(1, 1000)
    )
    gather_s: float = setting(
        "FLEETWIRE_WORKER_GATHER_S",
        0.005,
        help="How long the end of a job waits for others that end just now, to share their transaction.",
        parse=bounded_float(0, 1),
    )
    lease_s: float = setting(
        "FLEETWIRE_WORKER_LEASE_S", 60.0, help="How long a silent worker keeps a job.", parse=bounded_float(0.1, 3600)
    )
    heartbeat_s: float = setting(
        "FLEETWIRE_WORKER_HEARTBEAT_S", 20.0, help="How often leases are renewed.", parse=bounded_float(0.02, 1200)
    )
    cancel_look_s: float = setting(
        "FLEETWIRE_WORKER_CANCEL_LOOK_S",
        1.0,
        help="How often is looked whether jobs at work were cancelled.",
        parse=bounded_float(0.02, 60),
    )
    poll_s: float = setting(
        "FLEETWIRE_WORKER_POLL_S",
        1.0,
        help="Jobs are looked for every one to two of these.",
        parse=bounded_float(0.02, 60),
    )
    drain_s: float = setting(
        "FLEETWIRE_WORKER_DRAIN_S", 10.0, help="How long jobs may go on after SIGTERM.", parse=bounded_float(0, 600)
    )
    handler_s: float = setting(
        "FLEETWIRE_WORKER_HANDLER_S", 180.0, help="How long a handler may take.", parse=bounded_float(0.1, 3600)
    )
    max_attempts: int = setting(
        "FLEETWIRE_WORKER_MAX_ATTEMPTS", 6, help="Attempts at a job, the first included.", parse=bounded_int(1, 100)
    )
    retry_base_s: float = setting(
        "FLEETWIRE_WORKER_RETRY_BASE_S",
        2.0,
        help="Bound of the first wait; it doubles.",
        parse=bounded_float(0.01, 3600),
    )
    retry_cap_s: float = setting(
        "FLEETWIRE_WORKER_RETRY_CAP_S", 300.0, help="Largest wait between attempts.", parse=bounded_float(0.01, 86_400)
    )
    ttl_s: float = setting(
        "FLEETWIRE_WORKER_TTL_S",
        86_400.0,
        help="No attempt begins later than this after the first.",
        parse=bounded_float(1, 30 * 86_400),
    )
    input_mb: int = setting(
        "FLEETWIRE_WORKER_INPUT_MB", 512, help="Largest request file, in MB.", parse=bounded_int(1, 100_000)
    )
    memory_mb: int = setting(
        "FLEETWIRE_WORKER_MEMORY_MB", 500, help="Memory of a handler process, in MB.", parse=bounded_int(100, 100_000)
    )
    recycle_after: int = setting(
        "FLEETWIRE_WORKER_RECYCLE_AFTER",
        1000,
        help="Files after which a process is replaced.",
        parse=bounded_int(1, 10**9),
    )
    nice: int = setting(
        "FLEETWIRE_WORKER_NICE", 5, help="How far handlers give way to other processes.", parse=bounded_int(0, 19)
    )
    stall_s: float = setting(
        "FLEETWIRE_WORKER_STALL_S",
        60.0,
        help="A worker that something has kept from all else for so long ends, to be started again.",
        parse=bounded_float(0.5, 3600),
    )
    work_folder: Path | None = setting(
        "FLEETWIRE_WORKER_TMP",
        None,
        help="Folder for files at work; default: worker-tmp beside the folder for drafts.",
        parse=path,
    )
    photo_position: str = setting(
        "FLEETWIRE_WORKER_PHOTO_POSITION",
        "strip",
        help="Whether the position in a photo is kept in the response.",
        parse=choice("strip", "keep"),
    )
    handler_options: dict[str, Any] = setting(
        "FLEETWIRE_WORKER_HANDLER_OPTIONS", None, help="JSON object of handlers' options.", parse=_options
    )
    noop: bool = setting(
        "FLEETWIRE_WORKER_NOOP", False, help="Whether *.noop files are answered by nothing, to measure.", parse=boolean
    )

    retention_acked_h: float = setting(
        "FLEETWIRE_RETENTION_ACKED_H",
        24.0,
        help="Hours that an acked event stays in the log.",
        parse=bounded_float(0, 24 * 366),
    )
    retention_any_h: float = setting(
        "FLEETWIRE_RETENTION_ANY_H",
        24.0 * 30,
        help="Hours that any event stays in the log, acked or not.",
        parse=bounded_float(0, 24 * 3660),
    )
    retention_keys_h: float = setting(
        "FLEETWIRE_RETENTION_KEYS_H",
        24.0 * 31,
        help="Hours that the key of an event is remembered, so that a repetition is known; at least 30 days.",
        parse=bounded_float(24 * 30, 24 * 3660),
    )
    retention_jobs_h: int = setting(
        "FLEETWIRE_RETENTION_JOBS_H",
        24 * 30,
        help="Hours that a job stays after it is done or cancelled.",
        parse=bounded_int(1, 24 * 3660),
    )
    retention_dead_h: int = setting(
        "FLEETWIRE_RETENTION_DEAD_H",
        24 * 90,
        help="Hours that a dead job stays, to be looked at or queued anew.",
        parse=bounded_int(1, 24 * 3660),
    )
    retention_period_s: float = setting(
        "FLEETWIRE_RETENTION_PERIOD_S",
        60.0,
        help="How often the log is looked through for what may go.",
        parse=bounded_float(0.05, 86_400),
    )

    def check(self) -> list[str]:
        """Rules between settings."""
        problems = []
        if self.retention_acked_h > self.retention_any_h:
            problems.append(
                "FLEETWIRE_RETENTION_ACKED_H is wrong: acked events cannot stay longer than FLEETWIRE_RETENTION_ANY_H"
            )
        if self.heartbeat_s > self.lease_s / 3:
            problems.append(
                f"FLEETWIRE_WORKER_HEARTBEAT_S={self.heartbeat_s:g} is wrong: it must be at most a third of "
                f"FLEETWIRE_WORKER_LEASE_S={self.lease_s:g}, so that one lost renewal does not lose the lease"
            )
        if self.retry_base_s > self.retry_cap_s:
            problems.append("FLEETWIRE_WORKER_RETRY_BASE_S is wrong: it must not be above FLEETWIRE_WORKER_RETRY_CAP_S")
        if problem := sizes_problem(self.options):
            problems.append(f"FLEETWIRE_WORKER_HANDLER_OPTIONS is wrong: {problem}")
        return problems + self.provider_problems() + self.model_problems()

    @property
    def retention(self) -> Retention:
        """How long events and keys stay."""
        return Retention(
            acked=timedelta(hours=self.retention_acked_h),
            any=timedelta(hours=self.retention_any_h),
            keys=timedelta(hours=self.retention_keys_h),
        )

    @property
    def scratch(self) -> Path:
        """The folder for files at work."""
        return self.work_folder or self.cloud_drafts.parent / "worker-tmp"

    @property
    def handler_processes(self) -> int:
        """How many processes run handlers. More than jobs at once would never all have work."""
        return self.processes or min(available_cpus(), self.concurrency)

    @property
    def options(self) -> dict[str, Any]:
        """What handlers are told."""
        return {**(self.handler_options or {}), "photo.position": self.photo_position}

    @property
    def memory_bytes(self) -> int:
        """The memory bound in bytes."""
        return self.memory_mb * _MB

    @property
    def input_bytes(self) -> int:
        """The bound on request files in bytes."""
        return self.input_mb * _MB
