"""When a single request to a provider is sent again, and after how long [pure].

Four kinds of trouble, by what is known of the request: UNSENT never reached the provider and REFUSED was turned away,
so both may be sent again by anybody; BROKEN and FAILED may have taken effect, so only a request that is safe to repeat
is. Waits are full jitter; where the provider said when to come back, never sooner. Tries and the time for all of them
are bounded: longer waits are the caller's to decide.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from shared.backoff import full_jitter

if TYPE_CHECKING:
    from random import Random

__all__ = ["ONCE", "RetryPolicy", "Trouble", "http_date", "retry_after_s", "trouble_of"]

_FAILURES: Final = frozenset({408, 500, 502, 503, 504, 509})
_RETRY_AFTER_MAX_S: Final = 86_400.0


class Trouble(Enum):
    """What became of a request that brought no answer to work with."""

    UNSENT = "unsent"
    REFUSED = "refused"
    BROKEN = "broken"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds, in seconds and tries; the first try counts."""

    tries: int = 5
    total_s: float = 60.0
    base_s: float = 0.5
    cap_s: float = 15.0

    def wait_s(
        self,
        trouble: Trouble,
        *,
        made: int,
        spent_s: float,
        rand: "Random",
        repeatable: bool,
        retry_after_s: float | None = None,
    ) -> float | None:
        """How long to wait before the next try, after `made` of them in `spent_s`; None: give up."""
        if made >= self.tries:
            return None
        if trouble in (Trouble.BROKEN, Trouble.FAILED) and not repeatable:
            return None
        wait_s = full_jitter(made - 1, rand, base=self.base_s, cap=self.cap_s)
        if retry_after_s is not None:
            # A little later than it said, each caller by another bit: all of them were told the same moment.
            wait_s = retry_after_s + min(wait_s, 1.0)
        return wait_s if spent_s + wait_s <= self.total_s else None


ONCE: Final = RetryPolicy(tries=1)


def trouble_of(status: int) -> Trouble | None:
    """What a status says; None for all that is an answer to the question."""
    if status == 429:
        return Trouble.REFUSED
    return Trouble.FAILED if status in _FAILURES else None


def retry_after_s(value: str | None, *, now: float) -> float | None:
    """Seconds from a Retry-After header, a number of them or a date; `now` is wall clock. None when it says neither."""
    if value is None:
        return None
    text = value.strip()
    try:
        # isascii: int() takes digits of other scripts, and underscores.
        seconds = float(int(text)) if text.isascii() and text.isdigit() and len(text) <= 12 else http_date(text) - now
    except ValueError:
        return None
    return min(max(seconds, 0.0), _RETRY_AFTER_MAX_S)


def http_date(text: str) -> float:
    """Wall-clock seconds of a date as HTTP writes it. Raises ValueError."""
    return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
