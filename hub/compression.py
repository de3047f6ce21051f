"""Compressed frames (permessage-deflate, RFC 7692) that cost a connection nothing: neither side keeps a context.

Without a context the compressed form of an event depends on the event alone, so it is made once and put into every
frame that carries it, whatever the seq: a deflate stream may be joined from blocks, and the event's blocks stand
between those of the envelope. A connection holds no zlib object; inbound, one lives for as long as a message takes.

Offers that cannot be met in this way are declined, and what does not gain is sent as it is. What a peer sends is
inflated up to the size of a message and not a byte further, so a bomb ends as what it pretends to be: too large.
"""

import zlib
from collections.abc import Sequence
from typing import Final

from websockets.exceptions import NegotiationError, PayloadTooBig, ProtocolError
from websockets.extensions import Extension, ServerExtensionFactory
from websockets.frames import CTRL_OPCODES, Frame, Opcode
from websockets.typing import ExtensionName, ExtensionParameter

from hub.wire import EVENT_END, compressed_head, event_prefix
from shared.telemetry.metrics import HUB_COMPRESSED_BYTES

__all__ = ["NEVER", "DeflateFactory", "Deflater"]

# A body is never so long: the threshold of a connection that has not negotiated compression.
NEVER: Final = 1 << 62

WINDOW_BITS: Final = 12
MEMORY_LEVEL: Final = 5
# Above this, the last tenth of gain would cost three times the CPU.
LARGE_BYTES: Final = 4096
INFLATE_WINDOW_BITS: Final = 15
NAME: Final = ExtensionName("permessage-deflate")

_TAIL: Final = b"\x00\x00\xff\xff"
_STORED_BYTES: Final = 5


def _deflated(payload: bytes) -> bytes:
    """Blocks that end at a byte boundary and refer to nothing outside."""
    level = 6 if len(payload) <= LARGE_BYTES else 1
    deflate = zlib.compressobj(level, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL)
    return deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)


def _stored(payload: bytes) -> bytes:
    """One stored block (RFC 1951, section 3.2.4); begins and ends at a byte boundary."""
    length = len(payload)
    return b"\x00" + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little") + payload


_END: Final = _deflated(EVENT_END).removesuffix(_TAIL)
# A frame's own share beside the body's blocks, with a seq of many digits.
_ENVELOPE_BYTES: Final = _STORED_BYTES + len(event_prefix(10**15)) + len(_END)


class Deflater:
    """Event frames for all connections that take compressed ones; one for a hub."""

    __slots__ = ("_blocks", "_held_bytes", "_held_max_bytes", "bytes_in", "bytes_out", "threshold")

    def __init__(self, *, threshold: int, held_max_bytes: int = 1024 * 1024) -> None:
        """Bodies shorter than `threshold` are not tried. What was compressed last is held, by body, within bounds."""
        self.threshold = threshold
        self._held_max_bytes = held_max_bytes
        self._held_bytes = 0
        self._blocks: dict[bytes, bytes | None] = {}
        self.bytes_in = 0
        self.bytes_out = 0

    def __repr__(self) -> str:
        return f"Deflater({len(self._blocks)} bodies, {self._held_bytes} bytes held)"

    def event(self, seq: int, body: bytes) -> bytes | None:
        """The compressed frame of an event, None when it would gain too little."""
        blocks = self._blocks_of(body)
        if blocks is None:
            return None
        prefix = _stored(event_prefix(seq))
        length = len(prefix) + len(blocks) + len(_END)
        self.bytes_in += len(prefix) - _STORED_BYTES + len(body) + 1
        self.bytes_out += length
        return b"%b%b%b%b" % (compressed_head(length), prefix, blocks, _END)

    def text(self, payload: bytes) -> bytes | None:
        """The compressed frame of any other text; None when it is short or would gain too little. Not held."""
        if len(payload) < self.threshold:
            return None
        blocks = _deflated(payload).removesuffix(_TAIL)
        if not _gains(len(blocks), len(payload)):
            return None
        return compressed_head(len(blocks)) + blocks

    def flush_counts(self) -> None:
        """Add what was counted since the last time to the metrics."""
        if self.bytes_in:
            HUB_COMPRESSED_BYTES.labels("in").inc(self.bytes_in)
            HUB_COMPRESSED_BYTES.labels("out").inc(self.bytes_out)
            self.bytes_in = self.bytes_out = 0

    def _blocks_of(self, body: bytes) -> bytes | None:
        held = self._blocks
        if body in held:
            return held[body]
        blocks: bytes | None = _deflated(body)
        assert blocks is not None
        if not _gains(len(blocks) + _ENVELOPE_BYTES, len(body)):
            blocks = None
        size = len(body) + len(blocks or b"")
        if size <= self._held_max_bytes:
            self._held_bytes += size
            while self._held_bytes > self._held_max_bytes:
                oldest = next(iter(held))
                self._held_bytes -= len(oldest) + len(held.pop(oldest) or b"")
            held[body] = blocks
        return blocks


def _gains(compressed: int, plain: int) -> bool:
    """At least an eighth: less is not worth the device's time."""
    return compressed * 8 <= plain * 7


class DeflateFactory(ServerExtensionFactory):
    """Judges offers. One for all connections."""

    name = NAME

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], Extension]:
        """The answer to an offer. Raises NegotiationError to decline it; the next offer is then judged."""
        if any(other.name == NAME for other in accepted_extensions):
            raise NegotiationError("accepted already")
        answer: list[ExtensionParameter] = [("server_no_context_takeover", None), ("client_no_context_takeover", None)]
        seen: set[str] = set()
        for name, value in params:
            if name in seen:
                raise NegotiationError(f"{name} is there twice")
            seen.add(name)
            if name in ("server_no_context_takeover", "client_no_context_takeover"):
                if value is not None:
                    raise NegotiationError(f"{name} takes no value")
            elif name == "server_max_window_bits":
                if _window_bits(name, value) < WINDOW_BITS:
                    raise NegotiationError("the window is smaller than what frames are shared with")
                answer.append((name, str(WINDOW_BITS)))
            elif name == "client_max_window_bits":
                if value is not None:
                    _window_bits(name, value)
            else:
                raise NegotiationError(f"{name} is not known")
        return answer, MessageDeflate()


def _window_bits(name: str, value: str | None) -> int:
    if value not in ("8", "9", "10", "11", "12", "13", "14", "15"):
        raise NegotiationError(f"{name} must be from 8 to 15")
    return int(value)


class MessageDeflate(Extension):
    """One connection's inbound half; frames that the hub writes itself never pass here."""

    name = NAME

    def __init__(self) -> None:
        self._inflate: zlib._Decompress | None = None

    def encode(self, frame: Frame) -> Frame:
        """As it is: the library writes control frames only."""
        return frame

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Inflate a frame of a compressed message. Raises PayloadTooBig, ProtocolError."""
        if frame.opcode in CTRL_OPCODES:
            return frame
        if frame.opcode is Opcode.CONT:
            if self._inflate is None:
                return frame
            if frame.rsv1:
                raise ProtocolError("RSV1 in a continuation frame")
            inflate = self._inflate
        elif frame.rsv1:
            if self._inflate is not None:
                raise ProtocolError("expected a continuation frame")
            inflate = zlib.decompressobj(-INFLATE_WINDOW_BITS)
        else:
            return frame
        self._inflate = None if frame.fin else inflate
        data = _inflated(inflate, bytes(frame.data) + _TAIL if frame.fin else bytes(frame.data), max_size)
        return Frame(frame.opcode, data, frame.fin, rsv1=False, rsv2=frame.rsv2, rsv3=frame.rsv3)


def _inflated(inflate: "zlib._Decompress", data: bytes, max_size: int | None) -> bytes:
    # One byte more than allowed tells "just fits" from "there is more"; 0 would mean no bound.
    limit = 0 if max_size is None else max_size + 1
    try:
        inflated = inflate.decompress(data, limit)
    except zlib.error:
        raise ProtocolError("the compressed message is damaged") from None
    if max_size is not None and len(inflated) > max_size:
        raise PayloadTooBig(None, max_size)
    # A last block may be marked as such (section 7.2.3.4); then nothing but the tail may follow it.
    if inflate.eof and inflate.unused_data.removesuffix(_TAIL) not in (b"", b"\x00"):
        raise ProtocolError("the compressed message goes on after its last block")
    return inflated
