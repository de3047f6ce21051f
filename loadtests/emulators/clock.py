"""The clock of an emulated provider: wall time that a test can move on, so that nothing waits for an hour to pass."""

from datetime import UTC, datetime

from shared import clock

__all__ = ["EmulatedClock"]


class EmulatedClock:
    """The wall clock plus what it was moved on by; `frozen_at` stops it there."""

    def __init__(self, *, frozen_at: float | None = None) -> None:
        self._frozen_at = frozen_at
        self._ahead_s = 0.0

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return (clock.wall() if self._frozen_at is None else self._frozen_at) + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._ahead_s += seconds

    def iso(self, seconds: float | None = None) -> str:
        """As providers write times: RFC 3339, UTC, milliseconds."""
        at = datetime.fromtimestamp(self.now() if seconds is None else seconds, UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
