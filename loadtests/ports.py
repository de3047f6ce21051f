"""Free ports for servers that tests and load runs start.

Taken from below the kernel's range for outgoing connections: a port of that range may be given to any connection of
this machine between the moment it is found free and the moment its server binds it.
"""

import random
import socket
from pathlib import Path
from typing import Final

__all__ = ["free_port"]

_LOWEST: Final = 12_000
_USUAL_END: Final = 32_768
_TRIES: Final = 200


def free_port() -> int:
    """A port of the loopback address that nobody listens on now. Drawn at random, so that runs side by side differ."""
    # The seed of the process may be fixed, by a test runner for one.
    drawn = random.SystemRandom()
    end = _outgoing_from()
    for _ in range(_TRIES):
        port = drawn.randrange(_LOWEST, end)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port from {_LOWEST} to {end}")


def _outgoing_from() -> int:
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _USUAL_END
    return low if low > 2 * _LOWEST else _USUAL_END
