"""How late the event loop of this process is: a timer, looked at once a second. A loop that is busy runs it late, and
everything else with it.
"""

import asyncio
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final

from shared.clock import monotonic
from shared.telemetry.metrics import LOOP_DELAY_SECONDS

__all__ = ["LoopDelay"]

PERIOD_S: Final = 1.0


class LoopDelay:
    """Observed from `start()` to `close()`."""

    def __init__(
        self,
        *,
        period_s: float = PERIOD_S,
        rand: Random | None = None,
        clock: Callable[[], float] = monotonic,
        on_delay: Callable[[float], None] = LOOP_DELAY_SECONDS.observe,
    ) -> None:
        self._period_s = period_s
        self._rand = rand or SystemRandom()
        self._clock = clock
        self._on_delay = on_delay
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, in the loop that runs."""
        self._wait(self._rand.uniform(0, self._period_s))

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, seconds: float) -> None:
        due = self._clock() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look, due)

    def _look(self, due: float) -> None:
        self._on_delay(max(0.0, self._clock() - due))
        self._wait(self._period_s)
