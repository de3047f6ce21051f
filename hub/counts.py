"""What is counted on the way of every event: plain numbers, handed to the metrics now and then.

A metric's `inc` costs about as much as deciding what to do with an event; an addition does not.
"""

from typing import Final

from shared.telemetry.metrics import HUB_ACKS, HUB_EVENTS_SENT

__all__ = ["Counts"]

_LIVE: Final = HUB_EVENTS_SENT.labels("live")
_LOG: Final = HUB_EVENTS_SENT.labels("log")


class Counts:
    """`sent` counts event frames written, `from_log` those that pages brought for it, `acks` ack frames taken."""

    __slots__ = ("acks", "from_log", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.from_log = 0
        self.acks = 0

    def flush(self) -> None:
        """Add what was counted since the last time to the metrics."""
        if self.sent or self.from_log:
            from_log = min(self.from_log, self.sent)
            _LIVE.inc(self.sent - from_log)
            _LOG.inc(from_log)
        HUB_ACKS.inc(self.acks)
        self.sent = self.from_log = self.acks = 0
