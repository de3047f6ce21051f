"""The library's sans-I/O protocol as a device socket needs it: small, silent, open about where its parser stands.

Small frames may be taken past it while it is between two messages, and only then.
"""

import logging
from collections.abc import Generator, Sequence
from typing import Final

from websockets.extensions import ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

from shared.protocol.close_codes import CloseCode
from shared.protocol.frames import INBOUND_MAX_BYTES, SUBPROTOCOL

__all__ = ["DeviceServerProtocol"]

# A close frame holds 125 bytes with the code (RFC 6455, section 5.5).
REASON_MAX_BYTES: Final = 123

_GARBAGE: Final = (
    b'{"type":"urn:fleetwire:problem:invalid-request","title":"The handshake is malformed","status":400}',
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nConnection: close\r\n",
)
_SILENT: Final = logging.getLogger("fleetwire.websocket")
_SILENT.setLevel(logging.ERROR)


class _BoundaryReader(StreamReader):
    """Knows whether the parser waits between two frames with nothing buffered."""

    at_boundary = True

    def at_eof(self) -> Generator[None, None, bool]:
        self.at_boundary = True
        ended = yield from super().at_eof()
        self.at_boundary = False
        return ended


class DeviceServerProtocol(ServerProtocol):
    """Offers `fleetwire.v1`, takes small messages, logs nothing."""

    def __init__(self, extensions: Sequence[ServerExtensionFactory]) -> None:
        super().__init__(
            extensions=extensions,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            max_size=INBOUND_MAX_BYTES,
            logger=_SILENT,
        )
        # Its debug lines would hold tokens.
        self.debug = False
        self.reader: _BoundaryReader = _BoundaryReader()
        self.parser = self.parse()
        next(self.parser)
        self._parts: bytearray | None = None

    def release(self) -> None:
        """Nothing more comes. What is tied to itself would be kept until the next collection of everything."""
        self.parser.close()
        for error in (self.parser_exc, self.handshake_exc):
            if error is not None:
                error.__traceback__ = None

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            # A peer may close in the middle of a message (RFC 6455 forbids it nowhere); the library takes that for
            # an error.
            self.current_size = None
        super().recv_frame(frame)

    @property
    def is_unanswered(self) -> bool:
        """Whether the handshake still waits for our answer."""
        return self.state is State.CONNECTING and not self.eof_sent

    @property
    def is_between_messages(self) -> bool:
        """Whether the next byte begins a message: nothing is buffered or half there, and no close frame has come."""
        return (
            self.reader.at_boundary
            and self._parts is None
            and self.close_rcvd is None
            and not self.eof_sent
            and self.state is not State.CONNECTING
        )

    def join(self, frame: Frame) -> bytes | None:
        """The text message that this frame completes, if it does. Of binary ones nothing is kept."""
        if frame.opcode is Opcode.TEXT:
            if frame.fin:
                return bytes(frame.data)
            self._parts = bytearray(frame.data)
        elif self._parts is not None:
            self._parts += frame.data
            if frame.fin:
                text, self._parts = bytes(self._parts), None
                return text
        return None

    def say_goodbye(self, code: CloseCode, reason: str) -> None:
        """Begin the closing handshake, unless it has begun."""
        if self.state is State.OPEN:
            self.send_close(int(code), _clipped(reason))

    def give_up(self, code: CloseCode, reason: str) -> None:
        """Close, and read nothing more."""
        if self.state is State.OPEN:
            self.fail(int(code), _clipped(reason))

    def answer_to_garbage(self) -> bytes | None:
        """What is no HTTP the library only drops; what it has an answer for, as for requests too long, gets that."""
        if any(self.writes[:1]):
            return None
        body, head = _GARBAGE
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def _clipped(reason: str) -> str:
    return reason.encode(errors="replace")[:REASON_MAX_BYTES].decode(errors="ignore")
