"""uvicorn inside a process that owns its signals: started and closed by us, on a socket that is bound before it starts.

uvicorn's own signal handling closes sockets before anything else can finish; here `close()` is called when `app.py`
says so. Binding first makes port 0 usable and lets a busy port be named together with the setting that moves it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

__all__ = ["AsgiServer", "PortBusy", "bind"]

_START_DEADLINE_S: Final = 10.0
_LET_IN_TURNS: Final = 3


class PortBusy(OSError):
    """The address cannot be bound; the message names it and the setting that moves it."""


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Closing the door resets who stands before it: whoever came while the loop was busy is let in first.
        for _ in range(_LET_IN_TURNS):
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(host: str, port: int, *, setting: str, shared: bool = False) -> socket.socket:
    """A bound, not yet listening TCP socket; `shared`, others that are too may have the same port. Raises PortBusy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small writes at once; without it each answer waits 40 ms for a delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortBusy(
            error.errno, f"{host}:{port} cannot be bound ({error.strerror}); choose another with {setting}"
        ) from None
    listener.setblocking(False)
    return listener


class AsgiServer:
    """One ASGI application on one address. `start()` returns when it accepts, `close()` when its requests ended."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        setting: str,
        close_s: float = 5.0,
        listener: socket.socket | None = None,
        **options: Any,
    ) -> None:
        """`options` go to `uvicorn.Config`; `close_s` is how long open requests may take once closing began.

        A `listener` that is bound already takes the place of host and port.
        """
        self._app = app
        self._host = host
        self._port = port
        self._setting = setting
        self._close_s = close_s
        self._listener = listener
        self._options = options
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that was bound; what the settings say before `start()`."""
        return self._port

    async def start(self) -> None:
        """Bind and accept. Raises PortBusy."""
        listener = self._listener or bind(self._host, self._port, setting=self._setting)
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=max(1, round(self._close_s)),
            **self._options,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name=f"asgi:{self._port}")
        async with asyncio.timeout(_START_DEADLINE_S):
            while not self._server.started:
                if self._task.done():
                    self._task.result()
                    raise RuntimeError("the server ended while it started")
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Accept nothing more, let open requests end for `close_s`, then cancel them. Safe to call twice."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        try:
            async with asyncio.timeout(self._close_s + 2.0):
                await asyncio.shield(self._task)
        except TimeoutError:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)
