"""An emulator on a port of its own, gone at once when it is closed: hundreds of tests start one each.

uvicorn's protocol without uvicorn's server, which looks every tenth of a second whether it should go on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from shared.asgi_server import bind

__all__ = ["serving"]


@asynccontextmanager
async def serving(app: ASGIApp, *, port: int = 0) -> AsyncIterator[str]:
    """The application's address while this block runs. Connections that are open at its end are cut."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
    config.load()
    state = ServerState()
    listener = bind("127.0.0.1", port, setting="--port")

    def protocol() -> asyncio.Protocol:
        made: Any = config.http_protocol_class
        connection: asyncio.Protocol = made(config=config, server_state=state, app_state={})
        return connection

    server = await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=1024)
    state.default_headers = _date()
    dates = asyncio.create_task(_dates(state))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        dates.cancel()
        server.close()
        for connection in list(state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(dates, *state.tasks, return_exceptions=True)


async def _dates(state: ServerState) -> None:
    """The server's clock in its answers, as uvicorn's own server keeps it."""
    while True:
        await asyncio.sleep(1)
        state.default_headers = _date()


def _date() -> list[tuple[bytes, bytes]]:
    return [(b"date", formatdate(usegmt=True).encode())]
