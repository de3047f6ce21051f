"""A way to Redis on which connections that are open can fall silent while they look alive, and new ones work.

What makes one hub deaf and no other: the relay drops what the server says to the subscribing connections of one name.
It holds back a sender whose receiver is slow, so that buffers fill where they would without it.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, cast

__all__ = ["MuteRelay", "Relays", "running_relays"]

_HOST: Final = "127.0.0.1"
_HEAD_MAX: Final = 64 * 1024


class MuteRelay:
    """From `port` to `target`. `start()`, then `mute(name)` as often as wanted, then `close()`."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.open: set[_Near] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Near(self), _HOST, self.port)

    def mute(self, name: str) -> int:
        """Silence the subscribing connections there are of clients with this name. Returns how many."""
        named = b"SETNAME\r\n$%d\r\n%b\r\n" % (len(name), name.encode())
        muted = [near for near in self.open if named in near.head and near.subscribes and not near.is_muted]
        for near in muted:
            near.is_muted = True
        return len(muted)

    async def close(self) -> None:
        """Cut everything."""
        if self._server is not None:
            self._server.close()
        for near in tuple(self.open):
            near.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


class Relays:
    """Relays on a loop and thread of their own, by the port of their server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, relays: Mapping[int, MuteRelay]) -> None:
        self._loop = loop
        self._relays = relays

    def mute(self, target: int, name: str) -> int:
        """`MuteRelay.mute` of the relay before this server."""

        async def mute() -> int:
            return self._relays[target].mute(name)

        return asyncio.run_coroutine_threadsafe(mute(), self._loop).result(5)


@contextmanager
def running_relays(ports: Mapping[int, int]) -> Iterator[Relays]:
    """Relays for the length of a block: from each key to the server at its value."""
    loop = asyncio.new_event_loop()
    relays = {target: MuteRelay(port, target) for port, target in ports.items()}
    thread = threading.Thread(target=loop.run_forever, name="relays", daemon=True)
    thread.start()

    def run(work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(5)

    try:
        for relay in relays.values():
            run(relay.start())
        yield Relays(loop, relays)
    finally:
        for relay in relays.values():
            run(relay.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        if not thread.is_alive():
            loop.close()


class _Near(asyncio.Protocol):
    """The side of the client."""

    def __init__(self, relay: MuteRelay) -> None:
        self._relay = relay
        self._far: _Far | None = None
        self._early: list[bytes] = []
        self._dial: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.head = b""
        self.subscribes = False
        self.is_muted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._relay.open.add(self)
        self._dial = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, far = await asyncio.get_running_loop().create_connection(lambda: _Far(self), _HOST, self._relay.target)
        except OSError:
            self.abort()
            return
        self._far = far
        self._dial = None
        for data in self._early:
            far.write(data)
        self._early.clear()
        if self.transport is None:
            far.abort()

    def data_received(self, data: bytes) -> None:
        if len(self.head) < _HEAD_MAX:
            self.head += data
            self.subscribes = self.subscribes or b"SSUBSCRIBE" in data
        if self._far is None:
            self._early.append(data)
        else:
            self._far.write(data)

    def pause_writing(self) -> None:
        if self._far is not None:
            self._far.hold()

    def resume_writing(self) -> None:
        if self._far is not None:
            self._far.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._relay.open.discard(self)
        if self._dial is not None:
            self._dial.cancel()
        if self._far is not None:
            self._far.abort()

    def from_server(self, data: bytes) -> None:
        """Pass on, unless muted."""
        if self.transport is not None and not self.is_muted:
            self.transport.write(data)

    def abort(self) -> None:
        """Cut."""
        if self.transport is not None:
            self.transport.abort()


class _Far(asyncio.Protocol):
    """The side of the server."""

    def __init__(self, near: _Near) -> None:
        self._near = near
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._near.from_server(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._near.abort()

    def write(self, data: bytes) -> None:
        """To the server."""
        if self._transport is not None:
            self._transport.write(data)

    def hold(self) -> None:
        """The client is slow: read no more for now."""
        if self._transport is not None:
            self._transport.pause_reading()

    def go_on(self) -> None:
        """It has caught up."""
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Cut."""
        if self._transport is not None:
            self._transport.abort()
