"""Whether a failed attempt is tried again, and when. [pure]

Two bounds end the tries, whichever comes first: the number of attempts, and the job's time to live, so that neither a
file that kills its process nor a store that is down for days keeps a job for ever. That a store is away counts against
the second alone. Waits are exponential with full
jitter, because the jobs that failed together (a store that went away) would otherwise come back together.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from shared.backoff import full_jitter

if TYPE_CHECKING:
    from random import Random

__all__ = ["Again", "Failure", "GiveUp", "RetryPolicy", "after_failure"]


_DOUBLINGS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_attempts` counts the first try; waits are drawn from [floor, min(cap, base * 2**n)] seconds.

    While a store is away a job waits at most `outage_cap_s`: what helps it is not patience with the job.
    """

    max_attempts: int = 6
    base_s: float = 2.0
    cap_s: float = 300.0
    floor_s: float = 0.1
    outage_cap_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or not 0 <= self.floor_s <= self.cap_s or self.base_s <= 0:
            raise ValueError("retry policy needs max_attempts >= 1, base > 0 and 0 <= floor <= cap")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `permanent` means that trying again cannot help. `error` is kept with the job.

    `outage`: a store is away. Such attempts are not counted; only the time to live ends them. `after_s`: whoever
    refused said that it will take so long.
    """

    error: str
    permanent: bool = False
    outage: bool = False
    after_s: float = 0.0

    def __post_init__(self) -> None:
        # Handlers raise what they like; the database holds no NUL and no half of a character.
        text = self.error.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
        object.__setattr__(self, "error", text)


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
    """Decide after attempt number `attempt` (from 1; after an outage the number of tries, whatever they were).

    `expires_in_s` is what is left of the job's time to live.
    """
    if failure.permanent:
        return GiveUp("permanent")
    if attempt >= policy.max_attempts and not failure.outage:
        return GiveUp("attempts")
    cap_s = min(policy.cap_s, policy.outage_cap_s) if failure.outage else policy.cap_s
    delay = max(policy.floor_s, full_jitter(min(attempt, _DOUBLINGS_MAX) - 1, rand, base=policy.base_s, cap=cap_s))
    if failure.after_s > 0:
        delay = min(failure.after_s, policy.cap_s) + min(delay, policy.base_s)  # jittered: all were told the same
    if expires_in_s is not None and delay >= expires_in_s:
        return GiveUp("expired")
    return Again(delay)
