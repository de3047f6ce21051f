"""What is counted on the way of every event: plain numbers, handed to the metrics now and then.

A metric's `inc` costs about as much as deciding what to do with an event; an addition does not, nor does comparing
with the number at which the next event is to be timed.
"""

from collections.abc import Callable
from typing import Final

from hub.stage_lag import EVERY, StageLag
from shared.telemetry.metrics import HUB_ACKS, HUB_EVENTS_SENT

__all__ = ["Counts"]

_LIVE: Final = HUB_EVENTS_SENT.labels("live")
_LOG: Final = HUB_EVENTS_SENT.labels("log")


class Counts:
    """`sent` counts event frames written, `from_log` those that pages brought for it, `acks` ack frames taken.

    Once `sent` has reached `sample_at`, the next event is handed to `sample`.
    """

    __slots__ = ("acks", "from_log", "lag", "sample_at", "sent")

    def __init__(self, after_flush: Callable[[Callable[[], None]], None]) -> None:
        """`after_flush(call)` calls once when what is due now has been written."""
        self.lag = StageLag(after_flush)
        self.sample_at = 1
        self.sent = 0
        self.from_log = 0
        self.acks = 0

    def sample(self, body: bytes) -> float | None:
        """Time this event, and say when the next one is to be. Returns when it was recorded."""
        self.sample_at = self.sent + EVERY
        return self.lag.fanned_out(body)

    def flush(self) -> None:
        """Add what was counted since the last time to the metrics."""
        if self.sent or self.from_log:
            from_log = min(self.from_log, self.sent)
            _LIVE.inc(self.sent - from_log)
            _LOG.inc(from_log)
        HUB_ACKS.inc(self.acks)
        self.sent = self.from_log = self.acks = 0
        self.sample_at = 1
