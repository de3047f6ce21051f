"""One socket of a driven device: its handshake and its frames. What they mean is the device's to decide.

A device that moves has two of them for a while. Each knows how far it itself has come (`seq`), so that what the hub
repeats on one socket is told apart from what two sockets both bring, as they may.
"""

import asyncio
from typing import Final, Protocol, cast

from loadtests.driver.wire import CLOSE, PING, PONG, TEXT, FrameReader, masked_frame

__all__ = ["Connection", "Owner"]

_EVENT: Final = b'{"type":"event","seq":'


class Owner(Protocol):
    """The device that a connection is of."""

    def on_opened(self, connection: "Connection") -> None: ...
    def on_event(self, connection: "Connection", seq: int, payload: bytes) -> None: ...
    def on_frame(self, connection: "Connection", payload: bytes) -> None: ...
    def on_close_frame(self, connection: "Connection", code: int) -> None: ...
    def on_lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """Writes `request` when it is connected; `on_lost` comes once if it ever was. `number` rises with every try."""

    __slots__ = (
        "_head",
        "_reader",
        "_request",
        "_transport",
        "after",
        "number",
        "open",
        "owner",
        "seq",
        "status",
        "welcomed",
    )

    def __init__(self, owner: Owner, number: int, request: bytes, *, after: tuple[int, int]) -> None:
        self.owner = owner
        self.number = number
        self.after = after  # epoch and seq that it was asked to go on from
        self.open = self.welcomed = False
        self.status = 0  # of the answer to the handshake
        self.seq = 0
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own, not a subclass
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.open:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            self.status = int(self._head[9:12])
            if self.status != 101:
                self.cut()
                return
            self.open = True
            self.owner.on_opened(self)
            data, self._head = self._head[end + 4 :], b""
        for opcode, payload in self._reader.feed(data):
            if opcode == TEXT:
                if payload.startswith(_EVENT):
                    seq = int(payload[len(_EVENT) : payload.index(b",", len(_EVENT))])
                    self.owner.on_event(self, seq, payload)
                else:
                    self.owner.on_frame(self, payload)
            elif opcode == PING:
                self.write(masked_frame(PONG, payload))
            elif opcode == CLOSE:
                self.owner.on_close_frame(self, int.from_bytes(payload[:2], "big"))
                self.write(masked_frame(CLOSE, payload[:2]))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.owner.on_lost(self)

    def write(self, data: bytes) -> None:
        """Write while there is somebody to write to."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def cut(self) -> None:
        """Break it, as a lost link does."""
        if self._transport is not None:
            self._transport.abort()
