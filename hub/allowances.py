"""What the settings allow sockets and connections, worked out once: all connections with a good link share the same
values, and one with a worse link gets its own.
"""

from dataclasses import dataclass, replace
from typing import Final

from hub.connection import ConnectionTimes
from hub.device_socket import SocketLimits
from hub.keepalive import PulseTimes
from hub.link_profile import GoodLink, LinkProfile
from hub.rates import InboundLimits
from hub.settings import Settings
from hub.window import WindowLimits

__all__ = ["Allowances", "allowances_of"]

# Beside events, which the window bounds: answers and pings.
WRITE_SLACK_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Allowances:
    """`window` and `pulse` are for a good link; `window_of` and `pulse_of` say what a link gets as it is."""

    socket: SocketLimits
    times: ConnectionTimes
    good_link: GoodLink
    window: WindowLimits
    pulse: PulseTimes

    def window_of(self, profile: LinkProfile) -> WindowLimits:
        """What may be on its way to the device."""
        if profile.first_bytes == self.window.first_bytes:
            return self.window
        return replace(self.window, first_bytes=profile.first_bytes)

    def pulse_of(self, profile: LinkProfile) -> PulseTimes:
        """When it is asked for a sign of life."""
        times = PulseTimes(profile.heartbeat_s, profile.answer_s)
        return self.pulse if times == self.pulse else times


def allowances_of(settings: Settings) -> Allowances:
    """As the settings say."""
    inbound = InboundLimits(
        settings.inbound_frames_per_s,
        settings.inbound_frames_burst,
        settings.inbound_bytes_per_s,
        settings.inbound_bytes_burst,
        settings.window_events,
    )
    return Allowances(
        SocketLimits(
            request_s=settings.handshake_s,
            close_s=settings.close_s,
            write_max_bytes=settings.window_max_bytes + WRITE_SLACK_BYTES,
            first_look_bytes=inbound.first_look_bytes,
        ),
        ConnectionTimes(settings.patience_s, settings.patience_s / 6, inbound),
        GoodLink(settings.heartbeat_s, settings.pong_s, settings.window_first_bytes),
        WindowLimits(settings.window_events, settings.window_first_bytes, settings.window_max_bytes),
        PulseTimes(settings.heartbeat_s, settings.pong_s),
    )
