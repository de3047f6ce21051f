"""Which queue a job of a kind goes to, and its priority: the one place that says it, for all who make jobs.

Jobs of kinds that wait for a model have a queue of their own, so that neither kind of work stands behind the other and
each is scaled by its own depth. Whoever runs workers sees to it that every queue named here has some.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.settings import setting
from shared.store.turns import PRIORITY_MAX, PRIORITY_MIN

__all__ = ["AI", "DEFAULT_KINDS", "QUEUES", "REQUESTS", "JobKindSettings", "JobKinds"]

REQUESTS: Final = "requests"
AI: Final = "ai"
QUEUES: Final = (REQUESTS, AI)
_QUEUE_OF: Final = {"model": AI}
_KINDS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class JobKinds:
    """What holds for kinds; those without a rule go to `fallback` with priority 0."""

    fallback: str
    queues: Mapping[str, str]
    priorities: Mapping[str, int]

    def queue_of(self, kind: str) -> str:
        """The queue of a job of this kind."""
        return self.queues.get(kind, self.fallback)

    def priority_of(self, kind: str) -> int:
        """The priority of a job of this kind that nobody gave another."""
        return self.priorities.get(kind, 0)


DEFAULT_KINDS: Final = JobKinds(REQUESTS, _QUEUE_OF, {})


def _object(raw: str) -> dict[str, Any]:
    try:
        given = json.loads(raw)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(given, dict) or len(given) > _KINDS_MAX or not all(0 < len(kind) <= 64 for kind in given):
        raise ValueError(f"not a JSON object with at most {_KINDS_MAX} kinds of jobs")
    return given


def _queues(raw: str) -> dict[str, str]:
    given = _object(raw)
    if not all(isinstance(queue, str) and queue.isascii() and 0 < len(queue) <= 64 for queue in given.values()):
        raise ValueError('not kinds with names of queues, for example {"model": "ai"}')
    return given


def _priorities(raw: str) -> dict[str, int]:
    given = _object(raw)
    for priority in given.values():
        if type(priority) is not int or not PRIORITY_MIN <= priority <= PRIORITY_MAX:
            raise ValueError(
                f'not kinds with priorities of {PRIORITY_MIN} to {PRIORITY_MAX}, for example {{"photo": -1}}'
            )
    return given


@dataclass(frozen=True, kw_only=True)
class JobKindSettings:
    """For processes that make jobs."""

    job_queues: dict[str, str] | None = setting(
        "FLEETWIRE_JOB_QUEUES",
        None,
        help='JSON object: the queue of each kind of job that has one of its own; default {"model": "ai"}.',
        parse=_queues,
    )
    job_priorities: dict[str, int] | None = setting(
        "FLEETWIRE_JOB_PRIORITIES",
        None,
        help="JSON object: the priority of kinds of jobs, -9 to 9, higher first; 0 where nothing is said.",
        parse=_priorities,
    )

    def job_kinds(self, fallback: str) -> JobKinds:
        """The rules; kinds without one go to `fallback`."""
        return JobKinds(fallback, _QUEUE_OF if self.job_queues is None else self.job_queues, self.job_priorities or {})
