"""A way to Redis on which connections that are open can go silent, while new ones work: what makes a hub deaf."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit


class DeafLink:
    """A TCP relay. `async with DeafLink(redis_url) as link`: connect to `link.url`, then `link.deafen()`."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._silent: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loses_new = False

    async def __aenter__(self) -> "DeafLink":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user = f"{self._parts.username or ''}:{self._parts.password}@" if self._parts.password else ""
        self.url = urlunsplit(self._parts._replace(netloc=f"{user}127.0.0.1:{port}"))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def deafen(self, *, new_ones_too: bool = False) -> None:
        """Nothing from Redis arrives any more on the connections there are. With `new_ones_too` also not on those that
        subscribe later, until `hear()`."""
        self._silent |= self._open
        self._loses_new = new_ones_too

    def hear(self) -> None:
        """New connections that subscribe work again."""
        self._loses_new = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
            up = asyncio.create_task(self._up(reader, far_writer, writer))
            down = asyncio.create_task(self._down(far_reader, writer))
            self._tasks |= {up, down}
            with suppress(asyncio.CancelledError):
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            for one in (up, down):
                one.cancel()
            await asyncio.wait({up, down})
            self._tasks -= {up, down}
            far_writer.close()
        finally:
            self._open.discard(writer)
            self._silent.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _up(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, near: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self._loses_new and b"SSUBSCRIBE" in data:
                    self._silent.add(near)
                far.write(data)
                await far.drain()

    async def _down(self, far: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await far.read(65536):
                if near not in self._silent:
                    near.write(data)
                    await near.drain()
