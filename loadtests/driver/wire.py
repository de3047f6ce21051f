"""Just enough of RFC 6455 for a load driver: a handshake, unmasked frames in, masked frames out.

A driver must cost much less than what it measures, so this reads frames in place and parses no event. It trusts its
server to speak the protocol: conformance is tested elsewhere, with a strict client.
"""

import base64
import os
import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["BINARY", "CLOSE", "PING", "PONG", "TEXT", "FrameReader", "handshake", "masked_frame"]

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

# Clients must mask; a mask of zeros is legal and leaves the payload as it is (RFC 6455, section 5.3, asks for entropy
# against confused proxies, which a loopback run has none of).
_NO_MASK: Final = b"\0\0\0\0"


def handshake(host: str, target: str, token: str | None) -> bytes:
    """The request that opens a device socket."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: fleetwire.v1",
    ]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame from a client."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, 0x80 | length)) + _NO_MASK + payload
    if length < 65536:
        return struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, length) + _NO_MASK + payload
    return struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, length) + _NO_MASK + payload


class FrameReader:
    """Bytes of a server in, whole frames out. Fragmented messages are not expected and come out as their fragments."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(opcode, payload) of every frame that is complete."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 2:
            length = data[at + 1]
            start = at + 2
            if length == 126:
                if end - at < 4:
                    break
                length = data[at + 2] << 8 | data[at + 3]
                start = at + 4
            elif length == 127:
                if end - at < 10:
                    break
                length = int.from_bytes(data[at + 2 : at + 10], "big")
                start = at + 10
            if end - start < length:
                break
            yield data[at] & 0x0F, data[start : start + length]
            at = start + length
        self._rest = data[at:]
