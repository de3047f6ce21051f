"""How much a device may send: so many frames and bytes a second, with some saved up for bursts.

Pure, and judged seldom: the socket only counts, and asks here when it has taken so many bytes that a limit could be
passed. What the hub itself asks for is not held against a device: every event sent earns a frame to ack it with, as
many as a window has. Who is over is told once; who is still over a second later is closed.

What came too much until then is forgiven, within bounds: a device that is a frame over now and then is told each time
and never closed, since that costs nothing; one that has lately been forgiven more than a minute of its rate is closed
the next time it is over, or it could flood for a second out of every six.
"""

from enum import Enum
from typing import Final, NamedTuple

__all__ = ["InboundLimits", "InboundRate", "RateVerdict"]

GRACE_S: Final = 1.0
# Within its limits for so long: what comes later is a new beginning.
QUIET_S: Final = 5.0
FORGIVEN_MAX_S: Final = 60.0
FRAME_LEAST_BYTES: Final = 6
ACK_BYTES: Final = 64
NO_LIMIT: Final = 2**53


class RateVerdict(Enum):
    """What to do about it."""

    WITHIN = "within"
    WARN = "warn"
    OVER = "over"  # and told so already
    CLOSE = "close"


class InboundLimits(NamedTuple):
    """Frames and bytes, per second and at once; `window` is how many events may be waiting for their acks.

    A rate of 0 is no limit.
    """

    frames_per_s: float
    frames_burst: int
    bytes_per_s: float
    bytes_burst: int
    window: int

    @property
    def first_look_bytes(self) -> int:
        """Until a connection has sent so much, no limit can have been passed."""
        return min(
            self.bytes_burst if self.bytes_per_s else NO_LIMIT,
            FRAME_LEAST_BYTES * self.frames_burst if self.frames_per_s else NO_LIMIT,
        )


class InboundRate:
    """What one connection has left. Made at its first look; counts only ever rise."""

    __slots__ = ("_at", "_bytes", "_earned", "_forgiven_s", "_frames", "_limits", "_over_at", "_over_since", "_seen")

    def __init__(self, limits: InboundLimits, now: float, *, sent: int) -> None:
        """`sent` is the seq of the last event sent by now; the acks of those before are still expected."""
        self._limits = limits
        self._at = now
        self._frames = float(limits.frames_burst)
        self._bytes = float(limits.bytes_burst)
        self._earned = limits.window
        self._seen = (0, 0, sent)
        # How many seconds at its rate what was forgiven would have taken; as many are paid back as go by.
        self._forgiven_s = 0.0
        self._over_since = 0.0
        self._over_at = float("-inf")

    def __repr__(self) -> str:
        return f"InboundRate({self._frames:.0f} frames and {self._bytes:.0f} bytes left, {self._earned} acks expected)"

    def judge(self, now: float, *, frames: int, size: int, sent: int) -> RateVerdict:
        """All frames and bytes that came so far, and the seq of the last event sent."""
        limits, (seen_frames, seen_size, seen_sent) = self._limits, self._seen
        self._seen = (frames, size, max(sent, seen_sent))
        elapsed, self._at = max(0.0, now - self._at), now
        earned = self._earned + max(0, sent - seen_sent)
        used = min(frames - seen_frames, earned)
        self._earned = min(limits.window, earned - used)
        more_frames = frames - seen_frames - used
        more_bytes = max(0, size - seen_size - ACK_BYTES * used)
        self._frames = min(limits.frames_burst, self._frames - more_frames + elapsed * limits.frames_per_s)
        self._bytes = min(limits.bytes_burst, self._bytes - more_bytes + elapsed * limits.bytes_per_s)
        over_s = max(
            -self._frames / limits.frames_per_s if limits.frames_per_s else 0.0,
            -self._bytes / limits.bytes_per_s if limits.bytes_per_s else 0.0,
        )
        self._frames, self._bytes = max(0.0, self._frames), max(0.0, self._bytes)
        self._forgiven_s = max(0.0, self._forgiven_s - elapsed)
        if over_s <= 0:
            return RateVerdict.WITHIN
        verdict = self._judge(now)
        self._forgiven_s += over_s
        return verdict

    def _judge(self, now: float) -> RateVerdict:
        quiet_s, self._over_at = now - self._over_at, now
        if quiet_s > QUIET_S:
            self._over_since = now
            return RateVerdict.CLOSE if self._forgiven_s > FORGIVEN_MAX_S else RateVerdict.WARN
        return RateVerdict.CLOSE if now - self._over_since >= GRACE_S else RateVerdict.OVER

    @property
    def look_after_bytes(self) -> int:
        """Until so much more has come, no limit can be passed."""
        limits = self._limits
        return min(
            int(self._bytes) if limits.bytes_per_s else NO_LIMIT,
            FRAME_LEAST_BYTES * (int(self._frames) + self._earned) if limits.frames_per_s else NO_LIMIT,
        )
