"""The library's sans-I/O protocol as a device socket needs it: small, silent, open about where its parser stands."""

import logging
from collections.abc import Generator, Sequence
from typing import Final

from websockets.extensions import ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

from shared.protocol.frames import INBOUND_MAX_BYTES, SUBPROTOCOL

__all__ = ["DeviceServerProtocol"]

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

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            # A peer may close in the middle of a message (RFC 6455 forbids it nowhere); the library takes that for
            # an error.
            self.current_size = None
        super().recv_frame(frame)
