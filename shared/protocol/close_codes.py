"""Every code a device socket closes with, and how the device comes back from it.

The range says what to do, so a client that meets a code it does not know still does the right thing. Hub, SDK and
docs/protocol.md read this one table (a test compares the document).
"""

from enum import Enum, IntEnum

__all__ = ["CloseCode", "Return", "how_to_return"]


class Return(Enum):
    """How a device comes back after a close."""

    NOW = "now"  # at once, jittered, where it was told
    AFTER_BACKOFF = "after_backoff"
    WITH_NEW_TOKEN = "with_new_token"  # noqa: S105 - not a secret
    NEVER = "never"  # unless a person acts


class CloseCode(IntEnum):
    """Codes that Fleetwire sends (RFC 6455, section 7.4: 4000-4999 are private; 1000-1015 are the protocol's)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    BAD_UTF8 = 1007
    TOO_LARGE = 1009
    MOVED = 4000
    DRAINING = 4001
    SUPERSEDED = 4002
    NO_PROGRESS = 4100
    OVER_RATE = 4101
    HUB_TROUBLE = 4102
    FLAPPING = 4103
    EXPIRED = 4200
    KEY_RETIRED = 4201
    REPLACED = 4300
    REVOKED = 4301
    PROTOCOL_ERROR = 4302

    @property
    def reason(self) -> str:
        """The reason text sent with the code (at most 123 bytes, RFC 6455 section 5.5.1)."""
        return _REASONS[self]


_REASONS: dict[CloseCode, str] = {
    CloseCode.NORMAL: "done",
    CloseCode.GOING_AWAY: "going away",
    CloseCode.BAD_UTF8: "text is not UTF-8",
    CloseCode.TOO_LARGE: "frame too large",
    CloseCode.MOVED: "moved to another hub",
    CloseCode.DRAINING: "hub is draining",
    CloseCode.SUPERSEDED: "superseded by a newer connection of this client",
    CloseCode.NO_PROGRESS: "no progress",
    CloseCode.OVER_RATE: "over rate",
    CloseCode.HUB_TROUBLE: "hub trouble",
    CloseCode.FLAPPING: "flapping: use REST for a while",
    CloseCode.EXPIRED: "token expired",
    CloseCode.KEY_RETIRED: "signing key retired",
    CloseCode.REPLACED: "replaced by another client of this device",
    CloseCode.REVOKED: "token revoked",
    CloseCode.PROTOCOL_ERROR: "protocol error",
}


def how_to_return(code: int) -> Return:
    """What a device does after a close with this code, known or not, by its range."""
    if code in (CloseCode.BAD_UTF8, CloseCode.TOO_LARGE):
        return Return.NEVER
    if 4000 <= code <= 4099:
        return Return.NOW
    if 4200 <= code <= 4299:
        return Return.WITH_NEW_TOKEN
    if 4300 <= code <= 4399:
        return Return.NEVER
    return Return.AFTER_BACKOFF
