"""Whether a failed attempt is tried again, and when. [pure]

Two bounds end the tries, whichever comes first: the number of attempts, and the job's time to live, so that neither a
file that kills its process nor a store that is down for days keeps a job for ever. Waits are exponential with full
jitter, because the jobs that failed together (a store that went away) would otherwise come back together.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.backoff import full_jitter

if TYPE_CHECKING:
    from random import Random

__all__ = ["Again", "Failure", "GiveUp", "RetryPolicy", "after_failure"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_attempts` counts the first try; waits are drawn from [floor, min(cap, base * 2**n)] seconds."""

    max_attempts: int = 6
    base_s: float = 2.0
    cap_s: float = 300.0
    floor_s: float = 0.1

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or not 0 <= self.floor_s <= self.cap_s or self.base_s <= 0:
            raise ValueError("retry policy needs max_attempts >= 1, base > 0 and 0 <= floor <= cap")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `permanent` means that trying again cannot help. `error` is kept with the job."""

    error: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Queue the job again after this delay."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job is dead, and the device is told."""

    reason: Literal["permanent", "attempts", "expired"]


def after_failure(
    policy: RetryPolicy, failure: Failure, *, attempt: int, expires_in_s: float | None, rand: "Random"
) -> Again | GiveUp:
    """Decide after attempt number `attempt` (from 1). `expires_in_s` is what is left of the job's time to live."""
    if failure.permanent:
        return GiveUp("permanent")
    if attempt >= policy.max_attempts:
        return GiveUp("attempts")
    delay = max(policy.floor_s, full_jitter(attempt - 1, rand, base=policy.base_s, cap=policy.cap_s))
    if expires_in_s is not None and delay >= expires_in_s:
        return GiveUp("expired")
    return Again(delay)
