"""How much an emulated provider lets itself be asked: units within a window, refused calls counted, too."""

from dataclasses import dataclass

from loadtests.emulators.clock import EmulatedClock

__all__ = ["Meter", "Reading"]


@dataclass(frozen=True)
class Reading:
    """`refused_s`: come back after so many seconds. `left` of `limit`, new in `reset_s`."""

    limit: int
    left: int
    reset_s: int
    refused_s: int | None

    def headers(self, *, prefix: str = "RateLimit") -> dict[str, str]:
        """What is said of it from four fifths on."""
        if self.left > self.limit // 5:
            return {}
        return {f"{prefix}-Limit": str(self.limit), f"{prefix}-Remaining": str(self.left)} | {
            f"{prefix}-Reset": str(self.reset_s)
        }


class Meter:
    """`limit` units in each window; None: as much as anybody wants. `early`: calls that came sooner than was said."""

    def __init__(self, clock: EmulatedClock, *, limit: int | None = None, window_s: float = 60.0) -> None:
        self._clock = clock
        self.limit = limit
        self.window_s = window_s
        self.spent = 0
        self.calls = 0
        self.refused = 0
        self.early = 0
        self._window = -1
        self._in_window = 0
        self._paused_until = 0.0

    def pause(self, seconds: float) -> None:
        """Refuse everything for so long, whatever was spent."""
        self._paused_until = max(self._paused_until, self._clock.now() + seconds)

    def told_to_wait(self, seconds: float) -> None:
        """A caller was told so by a scripted fault: whoever comes before is early."""
        self.pause(seconds)

    def take(self, units: int) -> Reading | None:
        """Take them. None: nobody counts."""
        now = self._clock.now()
        self.calls += 1
        self.spent += units
        if now < self._paused_until:
            self.early += 1
            self.refused += 1
            return Reading(self.limit or 0, 0, 1, max(1, int(self._paused_until - now + 0.999)))
        if self.limit is None:
            return None
        window = int(now // self.window_s)
        if window != self._window:
            self._window, self._in_window = window, 0
        self._in_window += units
        reset = max(1, int((window + 1) * self.window_s - now + 0.999))
        if self._in_window > self.limit:
            self.refused += 1
            self._paused_until = max(self._paused_until, now + reset)
            return Reading(self.limit, 0, reset, reset)
        return Reading(self.limit, self.limit - self._in_window, reset, None)
