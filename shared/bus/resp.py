"""One connection to Redis as an asyncio protocol: bytes in, replies and pushes out by plain calls, no task per reply.

Speaks RESP3, so that pushed messages and answers to commands can be told apart on one connection. Promises: `on_lost`
is called exactly once after a connection was made; input that does not parse or grows without completing a reply ends
the connection.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

import hiredis

from shared.bus.client import Endpoint, client_name

__all__ = ["ASK_ROLE", "Connection", "RedisRefused", "Server", "connect", "pack"]

INPUT_MAX_BYTES: Final = 8 * 1024 * 1024
_NOT_ENOUGH: Final = object()
_Push: Final = hiredis.PushNotification

pack: Final[Callable[[tuple[Any, ...]], bytes]] = hiredis.pack_command

# The greeting once more, on a connection that is greeted already: a server tells its role to everybody that way.
ASK_ROLE: Final = pack(("HELLO", "3"))


class RedisRefused(Exception):
    """Redis answered the greeting with an error, for example a wrong password."""


class Server(NamedTuple):
    """What a server says of itself when it is greeted."""

    is_cluster: bool = False
    is_primary: bool = True

    @classmethod
    def from_hello(cls, reply: Any) -> "Server":
        """From the answer to HELLO."""
        said = reply if isinstance(reply, dict) else {}
        return cls(said.get(b"mode") == b"cluster", said.get(b"role") not in (b"replica", b"slave"))


class Connection(asyncio.Protocol):
    """An open connection. Made by `connect()`; ended by `abort()` or by the other side."""

    def __init__(
        self,
        on_push: Callable[[list[Any]], None],
        on_reply: Callable[[Any], None],
        on_batch_end: Callable[[], None] | None,
        on_lost: Callable[[], None],
    ) -> None:
        self._on_push = on_push
        self._on_reply = on_reply
        self._on_batch_end = on_batch_end
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=_NOT_ENOUGH)
        self._unparsed = 0
        self._greeting: asyncio.Future[Any] | None = None
        self._established = False
        self.server = Server()

    @property
    def is_open(self) -> bool:
        """Whether bytes can still be written."""
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send; the caller bounds what it has outstanding."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """End the connection without waiting for anything."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport, though they are ones.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        gets = reader.gets
        on_push = self._on_push
        reader.feed(data)
        self._unparsed += len(data)
        try:
            while (reply := gets()) is not _NOT_ENOUGH:
                self._unparsed = 0
                if type(reply) is _Push:
                    on_push(reply)
                elif self._greeting is not None:
                    self._greet(reply)
                else:
                    self._on_reply(reply)
        except hiredis.ProtocolError:
            self.abort()
        finally:
            if self._on_batch_end is not None:
                self._on_batch_end()
        if self._unparsed > INPUT_MAX_BYTES:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(error or ConnectionResetError("Redis closed the connection"))
        if self._established:
            self._established = False
            self._on_lost()

    async def greet(self, endpoint: Endpoint, name: str) -> None:
        """Agree on RESP3, log in, name the connection and select the database."""
        hello: tuple[Any, ...] = ("HELLO", "3")
        if endpoint.password is not None:
            hello += ("AUTH", endpoint.username or "default", endpoint.password)
        self.server = Server.from_hello(await self._ask(pack((*hello, "SETNAME", client_name(name)))))
        if endpoint.database:
            await self._ask(pack(("SELECT", str(endpoint.database))))
        if not self.is_open:
            raise ConnectionResetError("Redis closed the connection")
        self._established = True

    async def _ask(self, command: bytes) -> Any:
        self._greeting = asyncio.get_running_loop().create_future()
        try:
            self.write(command)
            if isinstance(reply := await self._greeting, hiredis.ReplyError):
                raise RedisRefused(str(reply))
            return reply
        finally:
            self._greeting = None

    def _greet(self, reply: Any) -> None:
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(reply)


async def connect(
    endpoint: Endpoint,
    *,
    deadline_s: float,
    name: str,
    on_reply: Callable[[Any], None],
    on_lost: Callable[[], None],
    on_push: Callable[[list[Any]], None] = lambda push: None,
    on_batch_end: Callable[[], None] | None = None,
    primary: bool = False,
) -> Connection:
    """A greeted connection within `deadline_s`. Raises OSError (TimeoutError among them), RedisRefused.

    `on_batch_end` is called after the last reply of each read from the socket. `primary` refuses a replica: what is
    published at its primary reaches it only for as long as it is attached, and nothing would tell when it is not.
    """
    loop = asyncio.get_running_loop()
    connection = Connection(on_push, on_reply, on_batch_end, on_lost)
    try:
        async with asyncio.timeout(deadline_s):
            if endpoint.path is not None:
                await loop.create_unix_connection(lambda: connection, endpoint.path)
            else:
                context = endpoint.ssl_context()
                await loop.create_connection(lambda: connection, endpoint.host, endpoint.port, ssl=context)
                _keep_alive(connection)
            await connection.greet(endpoint, name)
            if primary and not connection.server.is_primary:
                raise RedisRefused("this server is a replica")
    except BaseException:
        connection.abort()
        raise
    return connection


def _keep_alive(connection: Connection) -> None:
    sock = connection._transport.get_extra_info("socket") if connection._transport else None
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
