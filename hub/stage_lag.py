"""How far behind an event is when the hub has it: a few are looked at, most only counted.

The body is not parsed: `time` stands before `data` in every encoded event, and quotes inside of values are escaped, so
the first `"time":"` is the event's own. Where another machine or a publisher wrote the time, the clocks may differ:
what lies in the future counts as no lag, and what is too old to be news is not counted.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from shared.clock import monotonic, wall
from shared.stages import Stage
from shared.telemetry.metrics import HUB_DELIVERY_SECONDS, STAGE_LAG_SECONDS

__all__ = ["EVERY", "NEVER_SAMPLED", "PROMISED_S", "StageLag", "recorded_at"]

# The first event of each tick of the wheel and one in so many after it: all of a quiet hub's, few of a busy one's.
EVERY: Final = 256
# Above every seq: no event of the connection waits for its ack to be timed.
NEVER_SAMPLED: Final = 2**63
NEWS_S: Final = 300.0
# What a connected device is promised, from the commit to its ack.
PROMISED_S: Final = 1.0

_KEY: Final = b'"time":"'
_HEAD_BYTES: Final = 1024
_MOMENT_BYTES: Final = 40

_FANNED_OUT: Final = STAGE_LAG_SECONDS.labels(Stage.FANNED_OUT)
_SENT: Final = STAGE_LAG_SECONDS.labels(Stage.SENT)
_ACKED: Final = STAGE_LAG_SECONDS.labels(Stage.ACKED)


def recorded_at(body: bytes) -> float | None:
    """The `time` of an encoded event as Unix seconds, None when it is not where it should be."""
    start = body.find(_KEY, 0, _HEAD_BYTES) + len(_KEY)
    end = body.find(b'"', start, start + _MOMENT_BYTES)
    if start < len(_KEY) or end < 0:
        return None
    try:
        moment = datetime.fromisoformat(body[start:end].decode("ascii"))
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.timestamp()


class StageLag:
    """Times single events. `after_flush(call)` calls once when what is due now has been written."""

    def __init__(self, after_flush: Callable[[Callable[[], None]], None]) -> None:
        self._after_flush = after_flush

    def fanned_out(self, body: bytes) -> float | None:
        """A session took the event up and its frame is about to be written. When it was recorded, if that is news."""
        recorded = recorded_at(body)
        if recorded is not None and (lag := wall() - recorded) <= NEWS_S:
            _FANNED_OUT.observe(max(0.0, lag))
        else:
            recorded = None
        self._after_flush(partial(_sent, monotonic()))
        return recorded

    def acked(self, sent: float, recorded: float | None) -> None:
        """The ack of an event that was written at `sent` is here."""
        _ACKED.observe(monotonic() - sent)
        if recorded is not None:
            HUB_DELIVERY_SECONDS.observe(max(0.0, wall() - recorded))

    def not_acked(self, recorded: float | None) -> None:
        """The connection is over without the ack. Late only if it was late by then: else the device just went."""
        if recorded is not None and (waited := wall() - recorded) > PROMISED_S:
            HUB_DELIVERY_SECONDS.observe(waited)


def _sent(since: float) -> None:
    _SENT.observe(monotonic() - since)
