"""WebSocket frames as bytes, made once: what the hub writes without the library, and the acks it reads without it.

Server frames are unmasked, unfragmented text (RFC 6455, section 5.2), so one event's frame serves every write of it.
Inbound, only whole, short, masked, final text frames are taken here; everything else is the library's to judge.
"""

import re
from struct import Struct
from typing import Final

__all__ = [
    "EMPTY_PONG",
    "EVENT_END",
    "PING",
    "SHORT_MAX",
    "ack_of",
    "compressed_head",
    "event_bytes",
    "event_prefix",
    "text_bytes",
]

SHORT_MAX: Final = 125
EVENT_END: Final = b"}"
PING: Final = b"\x89\x00"
# How the answer begins, masked; four bytes of mask follow, and nothing.
EMPTY_PONG: Final = b"\x8a\x80"
_pack_medium: Final = Struct("!BBH").pack
_LONG: Final = Struct("!BBQ")
_FIN_TEXT: Final = 0x81
_FIN_TEXT_COMPRESSED: Final = 0xC1
# As JSON encoders write it, with and without blanks; any other spelling goes through the strict decoder.
_ACK: Final = re.compile(rb'\{"type": ?"ack", ?"seq": ?(0|[1-9][0-9]{0,14})\}')


def text_bytes(payload: bytes) -> bytes:
    """A text frame."""
    return _head(len(payload)) + payload


def event_bytes(seq: int, body: bytes) -> bytes:
    """The text frame of `event_frame(seq, body)`."""
    payload = b'{"type":"event","seq":%d,"event":%b}' % (seq, body)
    length = len(payload)
    if length < _HEADS_KEPT:
        return _heads[length] + payload  # to copy a short payload twice costs less than to make its head
    return _head(length) + payload


def event_prefix(seq: int) -> bytes:
    """What stands before the body in `event_frame(seq, body)`; `EVENT_END` stands after it."""
    return b'{"type":"event","seq":%d,"event":' % seq


def compressed_head(length: int) -> bytes:
    """The head of a text frame whose payload is compressed (RFC 7692, section 6: RSV1)."""
    return _head(length, _FIN_TEXT_COMPRESSED)


def ack_of(payload: bytes | bytearray) -> int | None:
    """The seq of an ack frame in its usual spelling, else None."""
    match = _ACK.fullmatch(payload)
    return None if match is None else int(match[1])


def _head(length: int, first: int = _FIN_TEXT) -> bytes:
    if length <= SHORT_MAX:
        return bytes((first, length))
    if length < 65536:
        return _pack_medium(first, 126, length)
    return _LONG.pack(first, 127, length)


# Of usual lengths, made once.
_HEADS_KEPT: Final = 2048
_heads: Final = tuple(_head(length) for length in range(_HEADS_KEPT))
