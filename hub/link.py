"""What the kernel knows of a connection: is something still on its way, and does the other end's kernel answer?

That tells a device that reads slowly, whose kernel answers every probe, from one whose link is gone, and a send
buffer that drains inside the kernel from one that stands still. Elsewhere than on Linux nothing is known.
"""

import socket as sockets
import struct
import sys
from array import array
from typing import Any, Final, NamedTuple

__all__ = ["LinkState", "link_state"]

_SIOCOUTQ: Final = 0x5411
_TCP_INFO: Final = 11
# struct tcp_info begins with state, ca_state, retransmits, probes, backoff, options: one byte each. The first two
# counters are of transmissions in a row that nothing answered. The smoothed round trip in microseconds comes later.
_INFO_BYTES: Final = 72
_RTT_AT: Final = 68
_UNANSWERED_MEANS_GONE: Final = 3


class LinkState(NamedTuple):
    """`unsent` bytes that the peer's kernel has not acknowledged; `unanswered` transmissions or probes in a row; the
    round trip to the peer's kernel, 0 when it is not known. Behind a proxy the peer is the proxy.
    """

    unsent: int
    unanswered: int
    rtt_s: float = 0.0

    @property
    def is_gone(self) -> bool:
        """Whether the other end has not answered several transmissions in a row."""
        return self.unanswered >= _UNANSWERED_MEANS_GONE


def link_state(sock: Any | None) -> LinkState:
    """Ask the kernel. Never raises: a socket that is gone has nothing on its way."""
    if sock is None or not sys.platform.startswith("linux"):
        return LinkState(0, 0)
    import fcntl

    waiting = array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), _SIOCOUTQ, waiting)
        info = sock.getsockopt(sockets.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
    except (OSError, ValueError):
        return LinkState(0, 0)
    _, _, retransmits, probes = struct.unpack_from("BBBB", info)
    rtt_us = int.from_bytes(info[_RTT_AT:_INFO_BYTES], sys.byteorder) if len(info) >= _INFO_BYTES else 0
    return LinkState(waiting[0], max(retransmits, probes), rtt_us / 1e6)
