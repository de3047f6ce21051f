"""How much is on its way to a device: event frames that left the hub, less those whose ack has reached it.

Counted from the bytes of the connection alone, headers of the frames included, without asking the hub.
"""

import json
import zlib
from collections import deque
from typing import Final

from loadtests.driver.wire import TEXT, FrameReader

__all__ = ["InFlight"]

_HEAD_END: Final = b"\r\n\r\n"
_EVENT: Final = b'{"type":"event","seq":'


class InFlight:
    """One connection, as a tap of the proxy. `now` and `peak` in bytes, `peak_events` in events."""

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0
        self.peak_events = 0
        self.sent = 0
        self._down: FrameReader | None = None
        self._up: _MaskedReader | None = None
        self._down_head = b""
        self._up_head = b""
        self._flying: deque[tuple[int, int]] = deque()

    def from_server(self, data: bytes) -> None:
        """The hub has sent this."""
        if self._down is None:
            self._down_head += data
            head, found, data = self._down_head.partition(_HEAD_END)
            if not found:
                return
            if b" 101 " not in head[:20]:
                data = b""  # refused: there will be no frames
            self._down = FrameReader()
        for opcode, payload in self._down.feed(data):
            text = _inflated(payload) if opcode == TEXT else b""
            if text.startswith(_EVENT):
                self._on_event(text)

    def to_server(self, data: bytes) -> None:
        """The hub is about to be given this."""
        if self._up is None:
            self._up_head += data
            _, found, data = self._up_head.partition(_HEAD_END)
            if not found:
                return
            self._up = _MaskedReader()
        for opcode, payload in self._up.feed(data):
            if opcode == TEXT and (frame := json.loads(payload)).get("type") == "ack":
                while self._flying and self._flying[0][0] <= frame["seq"]:
                    self.now -= self._flying.popleft()[1]

    def _on_event(self, payload: bytes) -> None:
        length = len(payload)
        size = length + (2 if length < 126 else 4 if length < 65536 else 10)
        seq = int(payload[len(_EVENT) : payload.index(b",", len(_EVENT))])
        self._flying.append((seq, size))
        self.sent += size
        self.now += size
        self.peak = max(self.peak, self.now)
        self.peak_events = max(self.peak_events, len(self._flying))


def _inflated(payload: bytes) -> bytes:
    """A message as it was before compression: the window counts those bytes. Text never begins with NUL, and the hub's
    compressed events always do.
    """
    if not payload.startswith(b"\x00"):
        return payload
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\x00\x00\xff\xff")


class _MaskedReader:
    """Bytes of a client in, whole frames out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        data, found = self._rest + data, []
        at = 0
        while len(data) - at >= 6:
            length, start = data[at + 1] & 0x7F, at + 2
            if length >= 126:
                size = 2 if length == 126 else 8
                if len(data) < start + size:
                    break
                length = int.from_bytes(data[start : start + size], "big")
                start += size
            if len(data) < start + 4 + length:
                break
            mask, masked = data[start : start + 4], data[start + 4 : start + 4 + length]
            found.append((data[at] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))))
            at = start + 4 + length
        self._rest = data[at:]
        return found
