"""The listening side: who may come in at all, a task for each request, and how a refusal is said.

What a request becomes is the reception's; here it ends as a refusal or as a socket that a connection owns.
"""

import asyncio
import http
import socket as sockets
from functools import partial
from random import Random

import structlog
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from hub.admission import Admission, AdmissionLimits
from hub.allowances import Allowances
from hub.census import Census
from hub.compression import DeflateFactory
from hub.device_socket import DeviceSocket
from hub.flusher import Flusher
from hub.greeting import request_id_of
from hub.reception import Reception
from hub.refusals import Refusal
from hub.settings import Settings
from hub.socket_owners import Dismissed, Nobody
from shared.asgi_server import bind
from shared.clock import monotonic, wall
from shared.protocol.close_codes import CloseCode
from shared.protocol.ids import time_ordered_uuid
from shared.telemetry.metrics import (
    HUB_CLOSES,
    HUB_HANDSHAKES,
    HUB_HANDSHAKES_REFUSED,
)

__all__ = ["Endpoint"]

_log = structlog.get_logger(__name__)


class Endpoint:
    """`start()` listens, `close()` stops listening; connections live on until the hub ends them."""

    def __init__(
        self,
        settings: Settings,
        allowances: Allowances,
        *,
        reception: Reception,
        flusher: Flusher,
        rand: Random,
    ) -> None:
        self._settings = settings
        self._socket_limits = allowances.socket
        self._reception = reception
        self._flusher = flusher
        self._rand = rand
        self._extensions = [DeflateFactory()] if settings.compression else []
        self._nobody = Nobody(self.on_lost)
        self._admission = Admission(
            AdmissionLimits(
                settings.handshakes_per_s,
                settings.handshakes_burst,
                settings.address_sockets or settings.capacity + settings.handshakes_max // 2,
                settings.address_per_s,
                settings.address_burst,
            ),
            settings.trusted_proxies,
            monotonic(),
        )
        self._census = Census(
            # Twice, because a device that returns may come before its old socket has gone.
            2 * settings.capacity + settings.handshakes_max,
            arrive=lambda peer: self._admission.arrive(peer, monotonic()),
            leave=self._admission.leave,
        )
        self._handshakes: dict[DeviceSocket, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self.port = settings.port
        HUB_HANDSHAKES.set_function(lambda: len(self._handshakes))

    @property
    def census(self) -> Census:
        """How many sockets there are."""
        return self._census

    @property
    def handshakes(self) -> int:
        """Handshakes under way."""
        return len(self._handshakes)

    async def start(self) -> None:
        """Bind and listen. Raises PortBusy."""
        listener = bind(self._settings.host, self._settings.port, setting="FLEETWIRE_HUB_PORT")
        if self._settings.send_buffer_bytes:
            # What is accepted inherits it.
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, self._settings.send_buffer_bytes)
        self.port = listener.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(self._new_socket, sock=listener, backlog=4096)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        for task in list(self._handshakes.values()):
            task.cancel()

    def on_lost(self, socket: DeviceSocket) -> None:
        """A socket that was never welcomed is gone."""
        task = self._handshakes.pop(socket, None)
        if task is not None:
            task.cancel()

    def _new_socket(self) -> DeviceSocket:
        return DeviceSocket(
            self._nobody,
            self._flusher,
            on_request=self._on_request,
            limits=self._socket_limits,
            census=self._census,
            extensions=self._extensions,
        )

    def _on_request(self, socket: DeviceSocket, request: Request) -> None:
        if len(self._handshakes) >= self._settings.handshakes_max:
            self._refuse(socket, request, Refusal("unavailable", "too many handshakes at once", reason="handshakes"))
            return
        now = monotonic()
        if not socket.address:
            forwarded = request.headers.get_all("X-Forwarded-For")
            socket.address = self._admission.identify(socket.peer, forwarded, now)
        refusal = self._admission.judge(socket.address, now)
        if refusal is not None:
            self._refuse(socket, request, refusal)
            return
        socket.set_deadline(self._settings.handshake_s + 1.0)
        task = asyncio.get_running_loop().create_task(self._answer(socket, request))
        self._handshakes[socket] = task
        task.add_done_callback(partial(self._answered, socket))

    def _answered(self, socket: DeviceSocket, task: "asyncio.Task[None]") -> None:
        if self._handshakes.get(socket) is task:
            del self._handshakes[socket]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("handshake failed", exc_info=error)
            socket.abort()

    async def _answer(self, socket: DeviceSocket, request: Request) -> None:
        refusal = await self._reception.receive(socket, request)
        if refusal is not None:
            self._refuse(socket, request, refusal)

    def _dismiss(self, socket: DeviceSocket, request: Request) -> None:
        """Say it by a close code: a browser is not told the status of a refused handshake."""
        HUB_CLOSES.labels(str(int(CloseCode.FLAPPING))).inc()
        socket.owner = Dismissed(self.on_lost)
        socket.accept(socket.judge_upgrade(request), b"")
        socket.close(CloseCode.FLAPPING, CloseCode.FLAPPING.reason)

    def _refuse(self, socket: DeviceSocket, request: Request, refusal: Refusal) -> None:
        if refusal.slug == "flapping" and not request.headers.get_all("Authorization"):
            self._dismiss(socket, request)
            return
        given = request.headers.get_all("X-Request-ID")
        request_id = request_id_of(given[0] if len(given) == 1 else None, str(time_ordered_uuid(wall(), self._rand)))
        HUB_HANDSHAKES_REFUSED.labels(str(refusal.status), refusal.label).inc()
        level = _log.debug if refusal.status >= 429 else _log.info
        level("handshake refused", status=refusal.status, reason=refusal.label, request_id=request_id)
        body = refusal.body(request_id)
        headers = refusal.headers(luck=self._rand.random())
        headers |= {"X-Request-ID": request_id, "Content-Length": str(len(body)), "Connection": "close"}
        phrase = http.HTTPStatus(refusal.status).phrase
        socket.refuse(Response(refusal.status, phrase, Headers(headers), body))
