"""How often something may happen: so many per second, and some at once after a pause. Time is the caller's."""

__all__ = ["TokenBucket"]


class TokenBucket:
    """Fills at `per_s`, holds at most `burst`, starts full."""

    __slots__ = ("_at", "_per_s", "_tokens", "burst")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self.burst = burst
        self._tokens = burst
        self._at = now

    def __repr__(self) -> str:
        return f"TokenBucket({self._tokens:.1f} of {self.burst:g}, {self._per_s:g}/s)"

    def left(self, now: float) -> float:
        """Tokens in it."""
        self._fill(now)
        return self._tokens

    def wait_s(self, now: float, count: float = 1.0) -> float:
        """0 when it may happen now, else the seconds after which it may. Takes nothing."""
        self._fill(now)
        return 0.0 if self._tokens >= count else (count - self._tokens) / self._per_s

    def take(self, now: float, count: float = 1.0) -> float:
        """0 when it may happen now, else the seconds after which it may; then nothing is taken."""
        wait_s = self.wait_s(now, count)
        if not wait_s:
            self._tokens -= count
        return wait_s

    def _fill(self, now: float) -> None:
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self._per_s)
        self._at = max(self._at, now)
