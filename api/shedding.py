"""Sending requests away while the database is too slow for all of them, so that those that stay are answered in time.

Judged by how long requests wait for a connection, long before the wait for one ends in failure. Lists go first: they
take longest, and whoever reads them can read them again. Then everything goes but what would be sent again and again
or must not wait: acks, and what ends a token.
"""

from collections.abc import Callable
from enum import Enum

from api.problems import Problem
from shared.queue_watch import Pressure
from shared.telemetry.metrics import API_SHED

__all__ = ["Shed", "Shedding"]


class Shed(Enum):
    """When a request of this kind is sent away."""

    FIRST = "first"
    LATER = "later"
    NEVER = "never"


class Shedding:
    """`check()` before a request costs anything."""

    def __init__(self, pressure: Callable[[], Pressure]) -> None:
        self._pressure = pressure

    def check(self, shed: Shed) -> None:
        """Raises Problem (503) when it is to be sent away now."""
        if shed is Shed.NEVER:
            return
        pressure = self._pressure()
        if pressure is Pressure.MUCH or (pressure is Pressure.SOME and shed is Shed.FIRST):
            API_SHED.labels(shed.value).inc()
            raise Problem("unavailable", "too many requests wait for the database already")
