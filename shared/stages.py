"""The stages of an event's life, in order; the words that metrics, logs and pages use for them.

detected     a watcher saw the file
recorded     the row is committed
published    a hint has left for the bus
fanned_out   a hub's session took it up
sent         the frame has left
acked        the cursor has moved past it
"""

from enum import StrEnum

__all__ = ["Stage"]


class Stage(StrEnum):
    """Where an event is. Only `recorded` and `acked` are durable."""

    DETECTED = "detected"
    RECORDED = "recorded"
    PUBLISHED = "published"
    FANNED_OUT = "fanned_out"
    SENT = "sent"
    ACKED = "acked"
