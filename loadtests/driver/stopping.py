"""A device that reads and acks, then stops reading and says nothing more: its socket stays open and fills up."""

import asyncio
import socket
from typing import Final, cast

from loadtests.driver.wire import CLOSE, PING, PONG, TEXT, FrameReader, handshake, masked_frame

__all__ = ["StoppingDevice"]

_EVENT: Final = b'{"type":"event","seq":'
_RECEIVE_BYTES: Final = 64 * 1024  # small, or the kernel would take most of what is meant to wait in the hub


class StoppingDevice(asyncio.Protocol):
    """`connect()`, then `stop_reading()`, maybe `read_on()`, then `cut()`. `wrong` counts events out of turn."""

    def __init__(self, device_id: str, port: int, token: str) -> None:
        self._port = port
        self._request = handshake(f"127.0.0.1:{port}", f"/v1/socket?device_id={device_id}", token)
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._head: bytes | None = b""
        self.device_id = device_id
        self.seq = 0
        self.wrong = 0
        self.close_code: int | None = None

    async def connect(self) -> None:
        """Open the socket."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self._port))
        await loop.create_connection(lambda: self, sock=sock)

    @property
    def is_connected(self) -> bool:
        """Whether the socket is there."""
        return self._transport is not None

    def stop_reading(self) -> None:
        """From now on the kernel's buffers fill, then the hub's."""
        if self._transport is not None:
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Take what waits, and ack it."""
        if self._transport is not None:
            self._transport.resume_reading()

    def cut(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            if self._head[9:12] != b"101":
                raise RuntimeError(f"{self.device_id} was refused: {self._head[9:12]!r}")
            data, self._head = self._head[end + 4 :], None
        seq = self.seq
        for opcode, payload in self._reader.feed(data):
            if opcode == TEXT and payload.startswith(_EVENT):
                sent = int(payload[len(_EVENT) : payload.index(b",", len(_EVENT))])
                self.wrong += sent != seq + 1
                seq = sent
            elif opcode == PING:
                self._write(masked_frame(PONG, payload))
            elif opcode == CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big")
        if seq != self.seq:
            self.seq = seq
            self._write(masked_frame(TEXT, b'{"type":"ack","seq":%d}' % seq))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
