"""Settings of `fleetwire up --autoscale`. The steps are the cluster's, counted in looks: it looks every 15 seconds."""

from dataclasses import dataclass
from typing import Final

from infra.scaling.policy import TARGET, Rules
from infra.scaling.steadiness import Step
from infra.scaling.worker_policy import WAITING_TARGET, WORKERS_MAX, WorkerRules
from shared.job_kinds import QUEUES
from shared.settings import bounded_float, bounded_int, setting

__all__ = ["ScaleSettings"]

_UP_LOOKS: Final = 4
_DOWN_LOOKS: Final = 8
_WORKERS_UP_LOOKS: Final = 2
_WORKERS_DOWN_LOOKS: Final = 4
_HUBS: Final = bounded_int(1, 64)
_WORKERS: Final = bounded_int(1, WORKERS_MAX)


@dataclass(frozen=True, kw_only=True)
class ScaleSettings:
    """How the numbers of hubs and workers follow devices and jobs on one machine."""

    target: int = setting(
        "FLEETWIRE_SCALE_TARGET",
        TARGET,
        help="Devices for each hub; a tenth more on average adds one.",
        parse=bounded_int(1, 100_000),
    )
    hubs_min: int = setting("FLEETWIRE_SCALE_MIN", 1, help="Fewest hubs.", parse=_HUBS)
    hubs_max: int = setting("FLEETWIRE_SCALE_MAX", 8, help="Most hubs.", parse=_HUBS)
    quiet_s: float = setting(
        "FLEETWIRE_SCALE_QUIET_S",
        60.0,
        help="Seconds for which fewer must do before a hub or worker is removed.",
        parse=bounded_float(0, 86400),
    )
    period_s: float = setting(
        "FLEETWIRE_SCALE_PERIOD_S", 5.0, help="Seconds between two looks.", parse=bounded_float(0.05, 3600)
    )

    jobs_target: int = setting(
        "FLEETWIRE_SCALE_JOBS",
        WAITING_TARGET,
        help="Jobs that may wait for each worker of a queue; a tenth more on average adds one.",
        parse=bounded_int(1, 100_000),
    )
    workers_min: int = setting(
        "FLEETWIRE_SCALE_WORKERS_MIN", 3, help="Fewest workers of the queue `requests`.", parse=_WORKERS
    )
    ai_workers_min: int = setting(
        "FLEETWIRE_SCALE_AI_WORKERS_MIN", 1, help="Fewest workers of the queue `ai`.", parse=_WORKERS
    )
    workers_max: int = setting("FLEETWIRE_SCALE_WORKERS_MAX", 10, help="Most workers of each queue.", parse=_WORKERS)

    def check(self) -> list[str]:
        """What contradicts itself."""
        bounds = (
            ("FLEETWIRE_SCALE_MIN", self.hubs_min, "FLEETWIRE_SCALE_MAX", self.hubs_max),
            ("FLEETWIRE_SCALE_WORKERS_MIN", self.workers_min, "FLEETWIRE_SCALE_WORKERS_MAX", self.workers_max),
            ("FLEETWIRE_SCALE_AI_WORKERS_MIN", self.ai_workers_min, "FLEETWIRE_SCALE_WORKERS_MAX", self.workers_max),
        )
        return [
            f"{low}={least} is wrong: it is above {high}={most}" for low, least, high, most in bounds if least > most
        ]

    def rules(self) -> Rules:
        """For the policy."""
        return Rules(
            target=self.target,
            hubs_min=self.hubs_min,
            hubs_max=self.hubs_max,
            quiet_s=self.quiet_s,
            up=Step(2, _UP_LOOKS * self.period_s),
            down=Step(1, _DOWN_LOOKS * self.period_s),
        )

    def worker_rules(self, queue: str) -> WorkerRules:
        """For the policy of one queue."""
        return WorkerRules(
            target=self.jobs_target,
            workers_min=self.workers_min if queue == QUEUES[0] else self.ai_workers_min,
            workers_max=self.workers_max,
            quiet_s=self.quiet_s,
            up=Step(4, _WORKERS_UP_LOOKS * self.period_s),
            down=Step(1, _WORKERS_DOWN_LOOKS * self.period_s),
        )
