"""Whether a batch of operations goes over the socket or by REST. Pure.

A socket is quicker, but a frame holds little, and a hub closes the socket of a device that sends more than its rate: so
only as many bytes go there as leave half of that rate to everything else. What has failed there goes by REST for a
while.
"""

from typing import Final

from shared.protocol.frames import INBOUND_MAX_BYTES

__all__ = ["FRAME_MAX_BYTES", "SocketWay"]

FRAME_MAX_BYTES: Final = INBOUND_MAX_BYTES - 256  # for what is around it
_RATE: Final = 32 * 1024  # bytes a second; a hub allows twice that, and bursts of 256 KiB
_BURST: Final = 96 * 1024


class SocketWay:
    """One client's."""

    def __init__(self, now: float) -> None:
        self._left = float(_BURST)
        self._at = now
        self._barred_until = float("-inf")

    def __repr__(self) -> str:
        return f"SocketWay({self._left:.0f} bytes left, barred until {self._barred_until:.0f})"

    def ready_at(self, size: int) -> float | None:
        """From when on a batch of this size may go by the socket; None: it does not fit into a frame."""
        if size > FRAME_MAX_BYTES:
            return None
        lacking = max(0.0, size - self._left)
        return max(self._barred_until, self._at + lacking / _RATE)

    def spend(self, size: int, now: float) -> None:
        """So much is sent."""
        self._left = min(float(_BURST), self._left + max(0.0, now - self._at) * _RATE) - size
        self._at = now

    def bar(self, until: float) -> None:
        """Not before then."""
        self._barred_until = max(self._barred_until, until)
