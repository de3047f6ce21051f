"""Who owns a socket that no device has: until it is welcomed, and when it is accepted only to be closed.

To the endpoint it matters only that such a socket is gone.
"""

from collections.abc import Callable

from hub.device_socket import DeviceSocket

__all__ = ["Dismissed", "Nobody"]


class Nobody:
    """Owns a socket until it is accepted, or for ever when it is refused."""

    def __init__(self, on_lost: Callable[[DeviceSocket], None]) -> None:
        self.on_lost = on_lost

    def on_ack(self, seq: int) -> None:
        raise AssertionError("a frame before the upgrade")

    def on_text(self, text: bytes) -> None:
        raise AssertionError("a frame before the upgrade")

    def on_much(self) -> None:
        raise AssertionError("a frame before the upgrade")

    def on_closing(self) -> None:
        raise AssertionError("a frame before the upgrade")


class Dismissed:
    """Owns a socket that was accepted only to be closed; what still comes in is nobody's."""

    def __init__(self, on_lost: Callable[[DeviceSocket], None]) -> None:
        self.on_lost = on_lost

    def on_ack(self, seq: int) -> None: ...
    def on_text(self, text: bytes) -> None: ...
    def on_much(self) -> None: ...
    def on_closing(self) -> None: ...
