"""uvicorn under an emulator, in the loop of who starts it: up and down at once, since tests do that by the hundred.

Whoever is still connected at the end is cut off, and what is being answered is cancelled.
"""

import asyncio
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from shared.asgi_server import bind

__all__ = ["EmulatorServer"]

_DATE_S: Final = 1.0


class EmulatorServer:
    """One application on one port of the loopback address; 0: any that is free."""

    def __init__(self, app: ASGIApp, *, port: int = 0) -> None:
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False, ws="none")
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._listener = bind("127.0.0.1", port, setting="--port")
        self._dating: asyncio.Task[None] | None = None
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    async def start(self) -> None:
        """Accept."""
        await self._server.startup(sockets=[self._listener])
        await self._server.on_tick(0)
        self._dating = asyncio.create_task(self._keep_date())

    async def _keep_date(self) -> None:
        while True:
            await asyncio.sleep(_DATE_S)
            await self._server.on_tick(0)

    async def close(self) -> None:
        """Be gone."""
        if self._dating is not None:
            self._dating.cancel()
        for listening in self._server.servers:
            listening.close()
        for connection in list(self._server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        tasks = list(self._server.server_state.tasks)
        for task in tasks:
            task.cancel()
        # One turn of the loop, for the connections to hear that they are lost.
        await asyncio.gather(*tasks, asyncio.sleep(0), return_exceptions=True)
