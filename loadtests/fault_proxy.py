"""A TCP proxy on the loopback address that fails as networks and the boxes in them do.

Each way of failing is the real thing as far as one machine allows. `REFUSE`: nobody listens, the kernel answers with a
reset. `SWALLOW`: a listener whose queue is full and that never accepts, so the kernel drops the SYN and the client's
kernel repeats it into the void. `SILENT`: accepted, and not a byte is read or said. `ANSWER_…`: a box that speaks HTTP
answers the request itself. `STRIP…`: a proxy that knows no WebSocket passes the request on without `Upgrade` and
`Connection`, and brings back whatever the server makes of that.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Final, Protocol
from urllib.parse import urlsplit

from loadtests.link_faults import Fault, Gate, Gates, Script, What
from loadtests.slow_link import SlowLink

__all__ = ["FaultProxy", "Tap", "Way"]

_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 512
_CHUNK: Final = 64 * 1024
_HEAD_MAX: Final = 64 * 1024
_FILLERS: Final = 4
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


class Way(Enum):
    """What becomes of a new connection."""

    FORWARD = "forwarded"
    REFUSE = "refused"
    SWALLOW = "SYN swallowed"
    SILENT = "accepted and silent"
    ANSWER_200 = "answered 200"
    ANSWER_400 = "answered 400"
    ANSWER_502 = "answered 502"
    STRIP = "Upgrade stripped"
    STRIP_CONNECTION = "Connection stripped, Upgrade left"
    STRIP_OLD = "Upgrade stripped, passed on as HTTP/1.0"


_ANSWERS: Final = {
    Way.ANSWER_200: (b"200 OK", b"<html>Welcome to this network</html>"),
    Way.ANSWER_400: (b"400 Bad Request", b"<html>Bad request</html>"),
    Way.ANSWER_502: (b"502 Bad Gateway", b"<html>Bad gateway</html>"),
}
_STRIPPED: Final = {
    Way.STRIP: (b"upgrade", b"connection"),
    Way.STRIP_CONNECTION: (b"connection",),
    Way.STRIP_OLD: (b"upgrade", b"connection"),
}


class Tap(Protocol):
    """Looks on while one connection is forwarded."""

    def from_server(self, data: bytes) -> None:
        """The server has sent this."""

    def to_server(self, data: bytes) -> None:
        """The server is about to be given this."""


class FaultProxy:
    """In front of `target` (any URL with host and port). `become` says how new connections fare, `cut` ends open ones.

    The port stays the same for the proxy's whole life. `cut_after` ends each new connection once that many bytes came
    from the server, in the middle of whatever that is; `script` says what else befalls which (link_faults.py).
    """

    def __init__(
        self,
        target: str,
        *,
        port: int = 0,
        link: SlowLink | None = None,
        taps: Callable[[], Tap] | None = None,
    ) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or _HOST, parts.port or 80)
        self._link = link
        self._taps = taps
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._open: dict[socket.socket, asyncio.Task[None]] = {}
        self.port = port
        self.way = Way.REFUSE
        self.cut_after: int | None = None
        self.script: Script | None = None
        self.accepted = 0

    async def __aenter__(self) -> "FaultProxy":
        await self.become(Way.FORWARD)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.become(Way.REFUSE)
        await self.cut()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    async def become(self, way: Way) -> None:
        """Treat new connections like this. Those that are open stay as they are."""
        self._stop_listening()
        self.way = way
        if way is Way.REFUSE:
            return
        self._listener = self._listen(0 if way is Way.SWALLOW else _BACKLOG)
        if way is Way.SWALLOW:
            await self._fill()
        else:
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def cut(self) -> None:
        """Reset every open connection."""
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- listening

    def _listen(self, backlog: int) -> socket.socket:
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _narrow(listener, self._link)  # inherited by what is accepted
            listener.bind((_HOST, self.port))
            listener.listen(backlog)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        return listener

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    async def _fill(self) -> None:
        """Fill the listener's queue until the kernel drops a SYN."""
        loop = asyncio.get_running_loop()
        for _ in range(_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            self._fillers.append(filler)
            try:
                async with asyncio.timeout(0.2):
                    await loop.sock_connect(filler, (_HOST, self.port))
            except TimeoutError:
                return
        raise RuntimeError("this kernel accepts connections beyond a full queue")

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            near, _ = listener.accept()
            near.setblocking(False)
            self.accepted += 1
            task = asyncio.get_running_loop().create_task(self._serve(near, self.way))
            self._open[near] = task
            task.add_done_callback(lambda _: self._ended(near))

    def _ended(self, near: socket.socket) -> None:
        del self._open[near]
        _reset(near)

    # -- one connection

    async def _serve(self, near: socket.socket, way: Way) -> None:
        far: socket.socket | None = None
        try:
            if way is Way.SILENT:
                await asyncio.get_running_loop().create_future()
            elif way in _ANSWERS:
                await _answer(near, *_ANSWERS[way])
            else:
                first = await _stripped_head(near, way) if way in _STRIPPED else b""
                far = await self._reach()
                await self._forward(near, far, first)
        except (OSError, EOFError):
            pass
        finally:
            if far is not None:
                _reset(far)

    async def _reach(self) -> socket.socket:
        far = socket.socket()
        try:
            far.setblocking(False)
            _narrow(far, self._link)
            await asyncio.get_running_loop().sock_connect(far, self._target)
        except BaseException:
            far.close()
            raise
        return far

    async def _forward(self, near: socket.socket, far: socket.socket, first: bytes) -> None:
        tap = self._taps() if self._taps is not None else None
        gates = Gates(near, far, self._fault())
        if first:
            await asyncio.get_running_loop().sock_sendall(far, first)
        down = self._pump(far, gates.down, down=True, seen=tap.from_server if tap else None)
        up = self._pump(near, gates.up, down=False, given=tap.to_server if tap else None)
        tasks = [asyncio.create_task(down), asyncio.create_task(up)]
        try:
            await asyncio.gather(*tasks)
            # Both sides have said that they are done: what is left to do is an orderly end.
            for one in (near, far):
                one.close()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _fault(self) -> Fault | None:
        if self.script is not None and (fault := self.script(self.accepted)) is not None:
            return fault
        return None if self.cut_after is None else Fault(What.CUT, after=self.cut_after)

    async def _pump(
        self,
        source: socket.socket,
        sink: Gate,
        *,
        down: bool,
        seen: Callable[[bytes], None] | None = None,
        given: Callable[[bytes], None] | None = None,
    ) -> None:
        await sink.open()
        if self._link is None:
            await _copy(source, sink, _CHUNK, seen=seen, given=given)
            return
        loop, transit = asyncio.get_running_loop(), self._link.transit(down=down)

        async def fill(chunk: int) -> None:
            while data := await loop.sock_recv(source, chunk):
                if seen is not None:
                    seen(data)
                await transit.put(data)
            await transit.end()

        filling = asyncio.create_task(fill(self._link.chunk))
        try:
            while data := await transit.take():
                if given is not None:
                    given(data)
                await sink.send(data)
            await filling
            await sink.end()
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)


async def _copy(
    source: socket.socket,
    sink: Gate,
    chunk: int,
    *,
    seen: Callable[[bytes], None] | None,
    given: Callable[[bytes], None] | None,
) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, chunk):
        for look in (seen, given):
            if look is not None:
                look(data)
        await sink.send(data)
    await sink.end()


def _reset(one: socket.socket) -> None:
    """Cut off, unless closed already."""
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    one.close()


def _narrow(one: socket.socket, link: SlowLink | None) -> None:
    """The kernel's own buffers would hide a slow line from both ends."""
    if link is not None and link.shape.bytes_per_s is not None:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            one.setsockopt(socket.SOL_SOCKET, option, 8 * 1024)


async def _head(near: socket.socket) -> bytes:
    loop, head = asyncio.get_running_loop(), b""
    while b"\r\n\r\n" not in head:
        data = await loop.sock_recv(near, _CHUNK)
        if not data or len(head) > _HEAD_MAX:
            raise EOFError
        head += data
    return head


async def _answer(near: socket.socket, status: bytes, body: bytes) -> None:
    await _head(near)
    head = b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    await asyncio.get_running_loop().sock_sendall(near, head % (status, len(body)) + body)
    near.shutdown(socket.SHUT_WR)
    await asyncio.get_running_loop().sock_recv(near, _CHUNK)
    near.close()


async def _stripped_head(near: socket.socket, way: Way) -> bytes:
    head, _, rest = (await _head(near)).partition(b"\r\n\r\n")
    request, *lines = head.split(b"\r\n")
    if way is Way.STRIP_OLD:
        request = request.replace(b" HTTP/1.1", b" HTTP/1.0")
    kept: Iterable[bytes] = (line for line in lines if line.partition(b":")[0].strip().lower() not in _STRIPPED[way])
    return b"\r\n".join([request, *kept, b"Connection: close"]) + b"\r\n\r\n" + rest
