"""Which ports the set-up uses.

They are looked at before anything starts, so that a taken one is named together with the setting that moves it.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from infra.onebox.errors import PortTaken

__all__ = ["PortWish", "settle"]

HOST = "127.0.0.1"


@dataclass(frozen=True)
class PortWish:
    """A port for something, 0 for any free one, and the setting by which people choose another."""

    what: str
    port: int
    variable: str


def settle(wishes: Sequence[PortWish]) -> list[int]:
    """A port for each wish. Raises PortTaken naming every port that cannot be had."""
    taken: list[PortWish] = []
    held: list[socket.socket] = []
    ports: list[int] = []
    try:
        for wish in wishes:
            probe = socket.socket()
            # As servers do: a port in TIME_WAIT is free. All are held until the last is settled, so that no two agree.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.append(probe)
            try:
                probe.bind((HOST, wish.port))
                probe.listen(1)
            except OSError:
                taken.append(wish)
            else:
                ports.append(probe.getsockname()[1])
    finally:
        for probe in held:
            probe.close()
    if taken:
        problems = [f"port {wish.port} for {wish.what} is taken: set {wish.variable} to a free one" for wish in taken]
        if len(taken) > 1:
            problems.append("another Fleetwire may run on this machine; with FLEETWIRE_…_PORT=0 any free port is taken")
        raise PortTaken(problems)
    return ports
