"""The operations port of a process: is it alive, is it ready and why not, what does it count, what may be done to it.

`/health` says that the loop runs. `/ready` says whether to send work here. Away from loopback everything but these two
status words needs the operations token, and without a token the port is not opened there at all. On loopback without a
token, requests that a browser was tricked into (a foreign Host, an Origin on a write) are refused.
"""

import asyncio
import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.asgi_server import AsgiServer
from shared.settings import SettingsError, bounded_int, setting
from shared.telemetry.loop_delay import LoopDelay
from shared.telemetry.machine import Machine
from shared.telemetry.metrics import PROCESS_READY, PROCESS_TASKS, REGISTRY

__all__ = ["OpsServer", "OpsSettings", "Readiness", "is_loopback"]

_OPEN_PATHS: Final = frozenset({"/health", "/ready"})
_LOCAL_NAMES: Final = frozenset({"localhost", "testserver"})
TOKEN_MIN_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether work may be sent here; `reasons` say why not, `detail` what else is worth knowing (JSON values)."""

    ready: bool
    reasons: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OpsSettings:
    """Where the operations port is; a base class of every process's settings, which gives the port its default."""

    ops_host: str = setting("FLEETWIRE_OPS_HOST", "127.0.0.1", help="Address of the operations port.")
    ops_port: int = setting(
        "FLEETWIRE_OPS_PORT", 0, help="Operations port; 0 takes any free one.", parse=bounded_int(0, 65535)
    )
    ops_token: str | None = setting(
        "FLEETWIRE_OPS_TOKEN",
        None,
        help="Token of the operations port, needed on any address but loopback.",
        secret=True,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class OpsServer:
    """`/health`, `/ready`, `/metrics` and the process's own control routes; `/` lists them."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        process: str,
        readiness: Callable[[], Readiness],
        token: str | None = None,
        routes: Sequence[BaseRoute] = (),
        metrics: Callable[[], Awaitable[bytes]] | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        """Raises SettingsError when the address is open to others and no good token is given.

        `metrics` gives the page in place of this process's own; a `listener` is bound already.
        """
        if token is not None and len(token) < TOKEN_MIN_LENGTH:
            raise SettingsError([f"FLEETWIRE_OPS_TOKEN is wrong: use at least {TOKEN_MIN_LENGTH} characters"])
        if token is None and not is_loopback(host):
            raise SettingsError(
                [f"FLEETWIRE_OPS_TOKEN is not set: FLEETWIRE_OPS_HOST={host!r} can be reached by others"]
            )
        self._process = process
        self._readiness = readiness
        self._token = token
        self._page = metrics
        own = [route.path for route in routes if isinstance(route, Route)]
        self._paths = ["/health", "/ready", "/metrics", *own]
        app = Starlette(
            routes=[
                Route("/", self._index),
                Route("/health", self._health),
                Route("/ready", self._ready),
                Route("/metrics", self._metrics),
                *routes,
            ]
        )
        self.app: ASGIApp = _Guard(app, token)
        self._delay = LoopDelay()
        self._machine = Machine()
        self._server = AsgiServer(self.app, host, port, setting="FLEETWIRE_OPS_PORT", close_s=1.0, listener=listener)

    @property
    def port(self) -> int:
        """The port that was bound."""
        return self._server.port

    async def start(self) -> None:
        """Bind and answer. Raises PortBusy."""
        await self._server.start()
        self._delay.start()

    async def close(self) -> None:
        """Answer nothing more."""
        self._delay.close()
        await self._server.close()

    async def _index(self, request: Request) -> Response:
        del request
        return JSONResponse({"process": self._process, "paths": self._paths})

    async def _health(self, request: Request) -> Response:
        del request
        return JSONResponse({"status": "alive", "process": self._process})

    async def _ready(self, request: Request) -> Response:
        now = self._readiness()
        PROCESS_READY.set(now.ready)
        body: dict[str, Any] = {"status": "ready" if now.ready else "not ready", "process": self._process}
        if _admitted(request.headers, self._token):
            body |= {"reasons": list(now.reasons), "detail": dict(now.detail)}
        return JSONResponse(body, status_code=200 if now.ready else 503)

    async def _metrics(self, request: Request) -> Response:
        del request
        PROCESS_READY.set(self._readiness().ready)
        PROCESS_TASKS.set(len(asyncio.all_tasks()))
        if self._page is None:
            self._machine.look()
        page = generate_latest(REGISTRY) if self._page is None else await self._page()
        return Response(page, media_type=CONTENT_TYPE_LATEST)


class _Guard:
    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        if scope["path"] not in _OPEN_PATHS and not _admitted(headers, self._token):
            refusal = _problem(401, "the operations token is missing or wrong", {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
        elif self._token is None and _is_foreign(scope["method"], headers):
            refusal = _problem(403, "requests to the operations port must name it by its loopback address")
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _admitted(headers: Headers, token: str | None) -> bool:
    if token is None:
        return True
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode())


def _is_foreign(method: str, headers: Headers) -> bool:
    host = headers.get("host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name.strip("[]") not in _LOCAL_NAMES and not is_loopback(name.strip("[]")):
        return True
    return method not in ("GET", "HEAD") and "origin" in headers


def _problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {"type": "about:blank", "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")
