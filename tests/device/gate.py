"""A TCP gate before a server: forwards, or fails as the networks and proxies between a device and a hub do."""

import asyncio
import socket
from contextlib import suppress
from typing import Literal

Mode = Literal["forward", "refuse", "swallow", "silent", "200", "400", "502", "portal"]

ANSWERS: dict[str, bytes] = {
    "200": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello",
    "400": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\nno\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "portal": b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nlogin",
}


class Gate:
    """Listens on one port for its whole life, whatever the mode."""

    def __init__(self, target_port: int) -> None:
        self.target = target_port
        self.mode: Mode = "refuse"
        self.port = 0
        self.connections = 0
        self.frozen = False
        self._thaw = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._deaf: list[socket.socket] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, mode: Mode = "forward") -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        await self.set(mode)

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def set(self, mode: Mode) -> None:
        """Behave like this from now on; what is open is cut."""
        self.mode = mode
        self.cut()
        for deaf in self._deaf:
            deaf.close()
        self._deaf.clear()
        if self._server is not None:
            self._server.close()
            self._server = None
        if mode == "refuse":
            return
        if mode == "swallow":
            self._swallow()
            return
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def cut(self) -> None:
        """Reset every open connection."""
        for writer in list(self._open):
            writer.transport.abort()

    def freeze(self) -> None:
        """Connections stay open and carry nothing: half-open."""
        self.frozen = True
        self._thaw.clear()

    def thaw(self) -> None:
        self.frozen = False
        self._thaw.set()

    async def close(self) -> None:
        await self.set("refuse")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _swallow(self) -> None:
        # A listener whose queue is full: the kernel drops further SYNs.
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(0)
        self._deaf.append(listener)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(("127.0.0.1", self.port))
            self._deaf.append(filler)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self.connections += 1
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "silent":
            await reader.read(-1)
            return
        if self.mode in ANSWERS:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWERS[self.mode])
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._open.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        except* (OSError, EOFError):
            pass
        finally:
            self._open.discard(far_writer)
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.frozen:
                await self._thaw.wait()
            writer.write(data)
            await writer.drain()
        raise EOFError
