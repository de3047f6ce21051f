"""One socket: opened with a deadline, read frame by frame, closed or aborted.

Foreign errors become ours here. The library's own keepalive is off: the session judges silence, from every inbound byte
and not only from whole frames, so that a slow link is not taken for a dead one. Redirects are not followed.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException
from websockets.typing import Subprotocol

from device.deflate import DeflateOffer
from device.errors import ProtocolRefused, Refused, Revoked, Unreachable
from device.problems import OUR_WORDS, problem_detail, problem_type, retry_after_of
from device.quiet import WIRE_LOG
from device.timing import Timing
from device.tls import default_tls
from shared.protocol.frames import SUBPROTOCOL

__all__ = ["Link", "LinkClosed", "open_link"]

_FRAME_MAX = 512 * 1024  # an event is at most 256 KiB
_ABNORMAL = 1006


class LinkClosed(Exception):
    """The socket is closed, with the code the hub gave, or 1006 when it gave none or we closed first."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class _Closing(NamedTuple):
    code: int
    reason: str


class _Connection(ClientConnection):
    """Tells of every inbound byte."""

    on_bytes: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        if self.on_bytes is not None:
            self.on_bytes()
        super().data_received(data)


class _Connect(connect):
    """Follows no redirect: the token is for the address that was given."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Link:
    """An open socket. One task reads, one writes; `abort()` ends both at once."""

    def __init__(self, connection: _Connection, timing: Timing) -> None:
        self._connection = connection
        self._timing = timing

    def tell_bytes(self, on_bytes: Callable[[], None]) -> None:
        """Call this for every piece of data that comes in."""
        self._connection.on_bytes = on_bytes

    async def receive(self) -> str | bytes:
        """The next text frame. Raises LinkClosed."""
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def send(self, text: bytes) -> None:
        """Send one text frame. A socket that takes none for too long is aborted. Raises LinkClosed."""
        await self._bounded(self._connection.send(text, text=True))

    async def ping(self) -> None:
        """Send a ping; the answer shows as inbound bytes. Raises LinkClosed."""
        await self._bounded(self._connection.ping())

    async def close(self, code: int, reason: str) -> None:
        """Shake hands and close, with a deadline."""
        try:
            async with asyncio.timeout(2 * self._timing.close_s):
                await self._connection.close(code, reason)
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Close without a handshake: there is nobody left to shake hands with."""
        self._connection.transport.abort()

    async def _bounded(self, sending: Any) -> None:
        try:
            async with asyncio.timeout(self._timing.send_s):
                await sending
        except ConnectionClosed as closed:
            raise _closed(closed) from None
        except TimeoutError:
            self.abort()
            raise LinkClosed(_ABNORMAL, "the socket takes no data") from None


async def open_link(url: str, bearer: str, *, timing: Timing, tls: ssl.SSLContext | None = None) -> Link:
    """Open a socket within the deadline. Raises Unreachable, Refused, Revoked, ProtocolRefused."""
    options: dict[str, Any] = {"ssl": tls or default_tls()} if url.startswith("wss:") else {}
    try:
        connection = await _Connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            extensions=[DeflateOffer()],
            compression=None,
            additional_headers={"Authorization": f"Bearer {bearer}"},
            user_agent_header="fleetwire-device",
            open_timeout=timing.open_s,
            ping_interval=None,
            close_timeout=timing.close_s,
            max_size=_FRAME_MAX,
            max_queue=8,
            create_connection=_Connection,
            logger=WIRE_LOG,
            **options,
        )
    except InvalidStatus as error:
        raise refusal_of(error) from None
    except (InvalidHandshake, InvalidURI, WebSocketException) as error:
        raise Unreachable(f"socket handshake failed: {type(error).__name__}") from error
    except (OSError, TimeoutError, ssl.SSLError, EOFError) as error:
        raise Unreachable(f"socket cannot be opened: {type(error).__name__}") from error
    if not isinstance(connection, _Connection):
        raise AssertionError("create_connection makes these")
    if connection.subprotocol != SUBPROTOCOL:
        connection.transport.abort()
        raise Unreachable(f"the server does not speak {SUBPROTOCOL}")
    return Link(connection, timing)


def refusal_of(error: InvalidStatus) -> Exception:
    """What another answer than 101 means: an error of ours, by status and problem."""
    response = error.response
    status = response.status_code
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/problem+json":
        return Unreachable(f"HTTP {status} instead of a socket, from something that is not a hub")
    body = bytes(response.body or b"")
    detail = problem_detail(body) or None
    match status:
        case 403:
            return Revoked(detail)
        case 400 if problem_type(body) in OUR_WORDS:
            return ProtocolRefused(detail)
        # Any other 400 is about headers, which a proxy on the way may have taken: the next network may be better.
        case _:
            return Refused(detail, status=status, retry_after=retry_after_of(headers), problem=problem_type(body))


def _closed(closed: ConnectionClosed) -> LinkClosed:
    # A code that we sent first says nothing about how the hub wants us back, even if the hub echoes it.
    if closed.rcvd is not None and closed.rcvd_then_sent is not False:
        return LinkClosed(closed.rcvd.code, closed.rcvd.reason)
    sent = _Closing(closed.sent.code, closed.sent.reason) if closed.sent is not None else None
    return LinkClosed(_ABNORMAL, f"closed by us: {sent.code} {sent.reason}" if sent else "connection lost")
