"""Whether a store seems well, by what calls to it came to [pure].

closed: all is well. Failures in a row, or too many among the last, open it: nobody is sent there for a while. half
open: that while is over and one caller at a time tries; successes close it, a failure opens it for twice as long. Slow
is as bad as failed: a store that takes a minute for everything holds up every job. A store that says when to come back
rests until then, which is no failure of its own.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Breaker", "BreakerRules", "State"]

State = Literal["closed", "open", "half_open", "resting"]

_REST_MAX_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """Counts, shares and seconds."""

    in_a_row: int = 3
    share: float = 0.5
    among: int = 20
    at_least: int = 5
    window_s: float = 60.0
    slow_s: float = 60.0
    open_s: float = 10.0
    open_max_s: float = 300.0
    trials: int = 2
    trial_s: float = 120.0
    """A trial of which nothing is heard for so long is over."""


class Breaker:
    """Of one store. `spread` (0 to 1, another in every process) keeps processes from trying in the same second."""

    def __init__(self, rules: BreakerRules = BreakerRules(), *, spread: float = 0.5) -> None:
        self._rules = rules
        self._spread = spread
        self._past: deque[tuple[float, bool]] = deque(maxlen=rules.among)
        self._failed_in_a_row = 0
        self._opened = 0
        self._open_until: float | None = None
        self._resting_until = float("-inf")
        self._trial_at: float | None = None
        self._passed = 0

    def __repr__(self) -> str:
        what = "closed" if self._open_until is None else f"open until {self._open_until:.1f}"
        return f"Breaker({what}, {self._failed_in_a_row} failed in a row, {self._passed} trials passed)"

    def state(self, now: float) -> State:
        """How it is."""
        if now < self._resting_until:
            return "resting"
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half_open"

    def admits(self, now: float) -> bool:
        """Whether somebody may be sent there. Who is, says so by `sent`."""
        state = self.state(now)
        if state == "half_open":
            return self._trial_at is None or now - self._trial_at >= self._rules.trial_s
        return state == "closed"

    def sent(self, now: float) -> None:
        """Somebody goes there; when it is half open, alone."""
        if self.state(now) == "half_open":
            self._trial_at = now

    def succeeded(self, now: float, seconds: float = 0.0) -> None:
        """It did what it was asked, in this time."""
        if seconds > self._rules.slow_s:
            self._went_wrong(now)
            return
        self._failed_in_a_row = 0
        self._past.append((now, True))
        if self.state(now) != "half_open":
            # Before the trials: somebody who was on the way when it opened. That alone says little.
            return
        self._trial_at = None
        self._passed += 1
        if self._passed >= self._rules.trials:
            self._open_until = None
            self._opened = self._passed = 0
            self._past.clear()

    def failed(self, now: float, retry_after_s: float | None = None) -> None:
        """It did not; or it said when to come back."""
        if retry_after_s is not None:
            self._resting_until = max(self._resting_until, now + min(retry_after_s, _REST_MAX_S))
            self._trial_at = None
            return
        self._went_wrong(now)

    def _went_wrong(self, now: float) -> None:
        self._failed_in_a_row += 1
        self._past.append((now, False))
        state = self.state(now)
        if state == "half_open" or (self._open_until is None and self._is_too_much(now)):
            rules = self._rules
            wait_s = min(rules.open_s * 2.0 ** min(self._opened, 16), rules.open_max_s)
            self._open_until = now + wait_s * (0.75 + 0.5 * self._spread)
            self._opened += 1
            self._passed = 0
            self._trial_at = None

    def _is_too_much(self, now: float) -> bool:
        rules = self._rules
        if self._failed_in_a_row >= rules.in_a_row:
            return True
        past = [well for at, well in self._past if now - at <= rules.window_s]
        wrong = past.count(False)
        return wrong >= rules.at_least and wrong >= rules.share * len(past)
