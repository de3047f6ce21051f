"""Under load the loop comes round in waves instead of once for every few bytes.

Waking up costs more than an event does: caches are cold, and what could be handled together arrives apart. So when
messages keep coming and the loop has nothing else to do, it rests until a wave has passed since it last came round;
events, acks and everything else that arrives meanwhile is then taken in one turn. An event waits for at most one wave
more; the first after a lull does not wait; and a loop that is busy for longer than a wave never rests, so nothing is
lost of what the process can do.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from shared.clock import monotonic

__all__ = ["Waves"]

_NOT_WORTH_S: Final = 0.0002


class Waves:
    """`on_batch_end()` follows every batch from the bus. `wave_s` 0: never rest."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wave_s: float,
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._loop = loop
        self._wave_s = wave_s
        self._clock = clock
        self._sleep = sleep
        self._last_batch = 0.0
        self._came_round = 0.0
        self._will_rest = False

    def on_batch_end(self) -> None:
        """Messages have come and are written. When others came just before, more will come soon."""
        if self._will_rest:
            return
        now = self._clock()
        if now - self._last_batch < 2 * self._wave_s:
            # Once this turn is over: other sockets that are ready now do not wait.
            self._will_rest = True
            self._loop.call_soon(self._rest)
        self._last_batch = now

    def _rest(self) -> None:
        self._will_rest = False
        now = self._clock()
        left = self._came_round + self._wave_s - now
        if left > _NOT_WORTH_S:
            # Blocking on purpose: a timer would wake up for every ack that comes meanwhile.
            self._sleep(left)
            now += left
        self._came_round = now
