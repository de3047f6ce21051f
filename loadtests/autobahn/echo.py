"""The hub's connection class with a test-only owner that sends back what it gets, for suites of RFC 6455 alone.

What is Fleetwire's own is put aside, and nothing else: binary frames are answered instead of refused, and messages may
be as large as the suite's.
"""

import asyncio
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from hub.census import Census
from hub.compression import DeflateFactory
from hub.device_socket import DeviceSocket, SocketLimits
from hub.flusher import Flusher

MESSAGE_MAX = 20 * 1024 * 1024


class _Echo:
    def __init__(self) -> None:
        self.socket: EchoSocket | None = None

    def on_ack(self, seq: int) -> None:
        raise AssertionError("the suite sends no acks")

    def on_text(self, text: bytes) -> None:
        assert self.socket is not None
        self.socket.echo(Opcode.TEXT, text)

    def on_much(self) -> None: ...
    def on_closing(self) -> None: ...
    def on_lost(self, socket: DeviceSocket) -> None: ...


class EchoSocket(DeviceSocket):
    """Sends every message back, in the suite's own opcode."""

    def __init__(self, flusher: Flusher, census: Census) -> None:
        owner = _Echo()
        super().__init__(
            owner,
            flusher,
            on_request=_accept,
            limits=SocketLimits(request_s=30.0, close_s=5.0, write_max_bytes=4 * MESSAGE_MAX),
            census=census,
            extensions=[DeflateFactory()],
        )
        owner.socket = self
        self._protocol.max_message_size = MESSAGE_MAX
        self._protocol.available_subprotocols = None
        self._binary: bytearray | None = None

    def echo(self, opcode: Opcode, data: bytes) -> None:
        if self._open:
            if opcode is Opcode.TEXT:
                self._protocol.send_text(data)
            else:
                self._protocol.send_binary(data)
            self._take_writes()

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY:
            self._binary = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._binary is not None:
            self._binary += frame.data
        else:
            super()._on_frame(frame)
            return
        if frame.fin:
            whole, self._binary = bytes(self._binary), None
            self.echo(Opcode.BINARY, whole)


def _accept(socket: DeviceSocket, request: Request) -> None:
    socket.accept(socket.judge_upgrade(request), b"")


async def start_echo() -> tuple[asyncio.Server, str]:
    """A listening echo server and its address."""
    loop = asyncio.get_running_loop()
    flusher, census = Flusher(loop), Census(1000)
    server = await loop.create_server(lambda: EchoSocket(flusher, census), "127.0.0.1", 0)
    host, port = cast("tuple[str, int]", server.sockets[0].getsockname())
    return server, f"ws://{host}:{port}"
