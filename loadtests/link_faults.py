"""What befalls one connection in the middle of its bytes: cut, swallowed, half closed or held up.

A fault waits until so many bytes have passed one way, and happens once, behind that very byte: a chunk that reaches
further is split. `Heading.UP` is towards the server. What becomes of the other way is part of what a fault is (`What`).
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Fault", "Gate", "Gates", "Heading", "Script", "What"]


class Heading(Enum):
    """Which way bytes go."""

    UP = "to the server"
    DOWN = "from the server"


class What(Enum):
    """What happens."""

    CUT = "both ends get a reset"
    BLACK_HOLE = "not a byte passes any more, nor the end of them, either way, and nobody is told"
    HALF_CLOSE = "who receives on this way sees its end; what is sent after that is lost; the other way goes on"
    HOLD = "this way stands still for a while and then goes on"


@dataclass(frozen=True, slots=True)
class Fault:
    """`what` happens when `after` bytes have passed; with 0, before the first. `hold_s` is for HOLD."""

    what: What
    after: int = 0
    heading: Heading = Heading.DOWN
    hold_s: float = 0.0


Script = Callable[[int], Fault | None]
"""What befalls connection number n, counted from 1."""


class Gate:
    """The end of one way, before its receiver."""

    def __init__(self, sink: socket.socket, fault: Fault | None, hole: asyncio.Event) -> None:
        self._sink = sink
        self._fault = fault
        self._hole = hole
        self._passed = 0
        self._closed = False

    async def open(self) -> None:
        """To be called before the first byte."""
        await self._strike()

    async def send(self, data: bytes) -> None:
        """Hand on what may pass. Raises EOFError when the connection is to be cut."""
        rest = memoryview(data)
        while rest:
            await self._respect_hole()
            room = len(rest) if self._fault is None else self._fault.after - self._passed
            piece, rest = rest[:room], rest[room:]
            if not self._closed:
                await asyncio.get_running_loop().sock_sendall(self._sink, piece)
            self._passed += len(piece)
            await self._strike()

    async def end(self) -> None:
        """Hand on that nothing comes any more."""
        await self._respect_hole()
        self._close()

    async def _strike(self) -> None:
        fault = self._fault
        if fault is None or self._passed < fault.after:
            return
        self._fault = None
        if fault.what is What.CUT:
            raise EOFError
        if fault.what is What.BLACK_HOLE:
            self._hole.set()
        elif fault.what is What.HALF_CLOSE:
            self._close()
        else:
            await asyncio.sleep(fault.hold_s)

    async def _respect_hole(self) -> None:
        if self._hole.is_set():
            await asyncio.get_running_loop().create_future()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._sink.shutdown(socket.SHUT_WR)


class Gates:
    """Both ways of one connection between `near`, the client's end, and `far`, the server's."""

    def __init__(self, near: socket.socket, far: socket.socket, fault: Fault | None) -> None:
        hole = asyncio.Event()
        self.up = Gate(far, fault if fault and fault.heading is Heading.UP else None, hole)
        self.down = Gate(near, fault if fault and fault.heading is Heading.DOWN else None, hole)
