"""Frames as a hub sends them, for tests of the session."""

import json
from typing import Any


def event(uid: str) -> dict[str, Any]:
    return {"id": uid, "source": "/t", "type": "ResponseReady", "data": {}}


def welcome(
    position: str = "1:0", *, acked: int = 0, head: int = 0, heartbeat_s: float = 10.0, ack_every: int = 16
) -> str:
    return json.dumps(
        {"type": "welcome", "session": "s", "hub": "h", "position": position, "acked": acked, "head": head,
         "heartbeat_s": heartbeat_s, "window": 256, "ack_every": ack_every, "ack_ms": 500, "jitter_s": 2.0}
    )  # fmt: skip


def event_frame(seq: int, uid: str | None = None, padding: int = 0) -> str:
    return json.dumps({"type": "event", "seq": seq, "event": {**event(uid or f"e{seq}"), "padding": "x" * padding}})


def reset_frame(position: str, reason: str = "retention") -> str:
    return json.dumps({"type": "reset", "position": position, "reason": reason})
