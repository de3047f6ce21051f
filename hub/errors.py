"""What can go wrong inside a hub.

HubError
├── Crowded         more handshakes wait than this hub takes
└── NotAnswered     what was asked cannot be answered now; ask again later
"""

__all__ = ["Crowded", "HubError", "NotAnswered"]


class HubError(Exception):
    """Something about this hub."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.__doc__)


class Crowded(HubError):
    """More handshakes wait than this hub takes."""


class NotAnswered(HubError):
    """What was asked cannot be answered now; ask again later."""
