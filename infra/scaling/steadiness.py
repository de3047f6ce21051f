"""Keeps a number that follows a signal steady: bounds, a quiet time before less, and steps. Pure.

As the horizontal autoscaler of Kubernetes does it. What was answered over the quiet time and what was changed in the
last periods is kept here; how the answer comes about is the policy's business.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["TOLERANCE", "Steadiness", "Step"]

TOLERANCE: Final = 0.1
"""What a cluster uses unless its operator says otherwise: an average this close to the target changes nothing."""
_CHANGES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Step:
    """At most so many within any period of so many seconds."""

    count: int
    period_s: float


class Steadiness:
    """Asked every few seconds. Keeps never more answers than there may be processes, and the changes that count."""

    def __init__(self, *, least: int, most: int, quiet_s: float, up: Step, down: Step) -> None:
        self._least = least
        self._most = most
        self._quiet_s = quiet_s
        self._up = up
        self._down = down
        self._answers: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque(maxlen=_CHANGES_MAX)

    def __repr__(self) -> str:
        return f"Steadiness({self._least} to {self._most}, {len(self._answers)} answers, {len(self._changes)} changes)"

    def changed(self, count: int, now: float) -> None:
        """So many were added, or removed when negative: the steps are counted by what was done, not by what was
        wished."""
        if count:
            self._changes.append((now, count))

    def settle(self, wished: int, current: int, now: float) -> int:
        """How many there should be now, of the `current`, when so many are wished for."""
        answer = min(max(wished, self._least), self._most)
        if not self._answers:
            # What there is counts as the first answer: a load that is still on its way back is no quiet time.
            self._answers.append((now, min(max(current, answer), self._most)))
        highest = self._highest_of_quiet_time(answer, now)
        if answer < current:
            answer = min(current, highest)
        return self._stepped(answer, current, now)

    def _highest_of_quiet_time(self, answer: int, now: float) -> int:
        """Only answers that no later one reached are kept."""
        answers = self._answers
        while answers and answers[0][0] <= now - self._quiet_s:
            answers.popleft()
        while answers and answers[-1][1] <= answer:
            answers.pop()
        answers.append((now, answer))
        return answers[0][1]

    def _stepped(self, answer: int, current: int, now: float) -> int:
        """The part of the way that the steps allow."""
        up, down = self._up, self._down
        while self._changes and self._changes[0][0] <= now - max(up.period_s, down.period_s):
            self._changes.popleft()
        # Both count from where the period began, as the cluster's does: up and down again is not twice the way.
        if answer > current:
            before = current - self._changed_since(now - up.period_s)
            return max(current, min(answer, before + up.count))
        if answer < current:
            before = current - self._changed_since(now - down.period_s)
            return min(current, max(answer, before - down.count))
        return current

    def _changed_since(self, then: float) -> int:
        return sum(count for at, count in self._changes if at > then)
