"""A link that carries so many bytes a second to the device and nothing back once the upgrade is done."""

import asyncio
import socket
from urllib.parse import urlsplit


class SlowLink:
    """A TCP relay in front of a hub. `async with SlowLink(url, rate)`; connect to `.url`."""

    def __init__(self, url: str, bytes_per_second: float) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._path = parts.path
        self._rate = bytes_per_second
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets: list[socket.socket] = []
        self.silent = False

    async def __aenter__(self) -> "SlowLink":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}{self._path}"
        self._tasks.append(asyncio.create_task(self._accept()))
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for one in (self._listener, *self._sockets):
            one.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        near, _ = await loop.sock_accept(self._listener)
        far = socket.socket()
        # Small, or the kernel would take what the link cannot carry.
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._sockets += [near, far]
        for one in self._sockets:
            one.setblocking(False)
        await loop.sock_connect(far, self._target)
        self._tasks += [asyncio.create_task(self._down(far, near)), asyncio.create_task(self._up(near, far))]

    async def _down(self, far: socket.socket, near: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(far, max(1, int(self._rate * 0.02))):
            await loop.sock_sendall(near, data)
            await asyncio.sleep(len(data) / self._rate)

    async def _up(self, near: socket.socket, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(near, 65536):
            if not self.silent:
                await loop.sock_sendall(far, data)
