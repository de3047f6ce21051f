"""One device socket on gevent: `websockets.ClientProtocol`, which does no I/O, over a plain gevent socket.

Nothing is monkey-patched: only these sockets are gevent's. One greenlet receives; any may send. What cannot be sent in
time ends the link, which the receiving greenlet sees, so sending never raises.
"""

from contextlib import suppress
from typing import Final

import gevent
from gevent import socket
from gevent.lock import BoundedSemaphore
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from device.problems import problem_detail, retry_after_of
from device.quiet import WIRE_LOG
from device.timing import Timing
from shared.protocol.frames import SUBPROTOCOL

__all__ = ["GeventLink", "LinkClosed", "NoLink", "open_link"]

FRAME_MAX_BYTES: Final = 512 * 1024
_ABNORMAL: Final = 1006
_CHUNK: Final = 64 * 1024


class NoLink(Exception):
    """A try for a socket came to nothing; `retry_after` is the server's wish in seconds, if it had one."""

    def __init__(self, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class LinkClosed(Exception):
    """The socket is closed, with the code the hub gave, or 1006 when it gave none or we closed first."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class GeventLink:
    """A link that is open, or, for `open_link` alone, about to be."""

    def __init__(self, connection: "socket.socket", protocol: ClientProtocol) -> None:
        self._socket = connection
        self._protocol = protocol
        self._sending = BoundedSemaphore(1)
        self._parts: list[bytes] = []
        self._ready: list[bytes] = []  # texts that came in one piece with the answer to the handshake
        self._over = False

    def receive(self, wait_s: float) -> list[bytes] | None:
        """The text messages that came in whole, maybe none; None when not a byte came in time. Raises LinkClosed."""
        if self._ready:
            texts, self._ready = self._ready, []
            return texts
        if self._over:
            raise self._closed()
        data = self._read(wait_s)
        if data is None:
            return None
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        texts = self._texts()
        self._flush()
        if not data or self._protocol.close_rcvd is not None or self._protocol.parser_exc is not None:
            self.abort()
            if not texts:
                raise self._closed()
        return texts

    def send_text(self, text: bytes) -> None:
        """Send one text message."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(text)
            self._flush()

    def ping(self) -> None:
        """Send a ping; the answer shows as inbound bytes."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._flush()

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; whoever receives sees its end, and has the deadline."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._flush()

    @property
    def closing(self) -> bool:
        """Whether a close has been sent or received."""
        return self._protocol.state is not State.OPEN

    def abort(self) -> None:
        """Close without a handshake. Whoever receives is told."""
        self._over = True
        self._socket.close()

    def break_off(self) -> None:
        """Let whoever receives find the end of the stream, as when the other side is gone."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def shake_hands(self) -> None:
        """Send the request and read the answer; the caller has the deadline. Raises OSError, InvalidHandshake."""
        self._flush()
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            data = self._socket.recv(_CHUNK)
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            self._flush()
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc
        self._ready = self._texts()

    def _read(self, wait_s: float) -> bytes | None:
        """Bytes, none of them at the end of the stream, None in vain."""
        data: bytes | None = None
        try:
            with gevent.Timeout(wait_s, False):
                data = self._socket.recv(_CHUNK)
        except OSError:
            return b""
        return data

    def _texts(self) -> list[bytes]:
        texts = []
        for event in self._protocol.events_received():
            # The answer to the handshake is an event as well.
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._parts.append(bytes(event.data))
                if event.fin:
                    texts.append(b"".join(self._parts))
                    self._parts.clear()
        return texts

    def _flush(self) -> None:
        with self._sending:  # held while it blocks, so that frames of two greenlets do not mix
            try:
                for data in self._protocol.data_to_send():
                    if data:
                        self._socket.sendall(data)
                    else:
                        self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self._socket.close()

    def _closed(self) -> LinkClosed:
        received = self._protocol.close_rcvd
        # A code that we sent first says nothing about how the hub wants us back, even if the hub echoes it.
        if received is not None and self._protocol.close_rcvd_then_sent is not False:
            return LinkClosed(received.code, received.reason)
        trouble = self._protocol.parser_exc
        return LinkClosed(_ABNORMAL, "closed by us" if received is not None else str(trouble or "connection lost"))


def open_link(url: str, bearer: str, timing: Timing) -> GeventLink:
    """Open a socket within the deadline. Raises NoLink."""
    try:
        uri = parse_uri(url)
        if uri.secure:
            raise NoLink("this load test opens ws:// sockets only")
        subprotocols = [Subprotocol(SUBPROTOCOL)]
        protocol = ClientProtocol(uri, subprotocols=subprotocols, max_size=FRAME_MAX_BYTES, logger=WIRE_LOG)
        request = protocol.connect()
        request.headers["Authorization"] = f"Bearer {bearer}"
        protocol.send_request(request)
        with gevent.Timeout(timing.open_s, TimeoutError(f"no answer within {timing.open_s:g} s")):
            return _shaken(uri.host, uri.port, protocol, timing)
    except InvalidStatus as error:
        raise _refused(error.response) from None
    except (InvalidHandshake, InvalidURI, OSError) as error:
        raise NoLink(f"{type(error).__name__}: {error}") from error


def _shaken(host: str, port: int, protocol: ClientProtocol, timing: Timing) -> GeventLink:
    connection = socket.create_connection((host, port), timeout=timing.send_s)
    try:
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = GeventLink(connection, protocol)
        link.shake_hands()
        if protocol.subprotocol != SUBPROTOCOL:
            raise NoLink(f"the server does not speak {SUBPROTOCOL}")
    except BaseException:
        connection.close()
        raise
    return link


def _refused(response: Response) -> NoLink:
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    detail = problem_detail(bytes(response.body or b""))
    return NoLink(f"HTTP {response.status_code} {detail}".rstrip(), retry_after_of(headers))
