"""The only place that reads a clock.

Three clocks, never mixed: `monotonic()` for local deadlines (it counts suspend, so a lease held across a laptop's
sleep is known to be over), `wall()` for tokens and timestamps that people read, and the database's `clock_timestamp()`
for everything that processes compare with one another (leases, run_at, presence), which is read in SQL and not here.
"""

import time
from datetime import UTC, datetime

__all__ = ["iso", "monotonic", "wall"]

_MONOTONIC_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Seconds that never go back and go on during suspend (Linux CLOCK_BOOTTIME, else CLOCK_MONOTONIC)."""
    return time.clock_gettime(_MONOTONIC_CLOCK)


def wall() -> float:
    """Seconds since the Unix epoch, as the system's clock has it."""
    return time.time()


def iso(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds, for example 2026-11-21T08:30:00.123Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
