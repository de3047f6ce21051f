"""The stages of an event's life, in order; the words that metrics, logs and pages use for them.

    detected ──▶ recorded ──▶ published ──▶ fanned_out ──▶ sent ──▶ acked
    a watcher    the row is   a hint left    a hub's        the      the cursor
    saw the      committed    for the bus    session took   frame    moved past
    file                                     it up          left     it
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
