"""The listening side: a request becomes a welcomed connection or a refusal.

The order matters. The token is checked before anything is spent on a device; the slot is subscribed, and that
confirmed, before the greeting statement reads the log, so that whatever is recorded after its snapshot is heard; and
from the statement's answer to the first frame nothing is awaited, so that nobody can come between.
"""

import asyncio
import http
import socket as sockets
import sys
from dataclasses import replace
from functools import partial
from random import Random
from uuid import uuid4

import structlog
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader
from websockets.headers import parse_subprotocol
from websockets.http11 import Request, Response

from hub.admission import Admission, AdmissionLimits
from hub.compression import DeflateFactory
from hub.connection import Connection, ConnectionTimes
from hub.device_socket import Census, DeviceSocket, SocketLimits
from hub.errors import Crowded, HubError, NotAnswered
from hub.gate import Gate
from hub.greeting import Admitted, Asked, Begin, admit, begin, is_signed, read_request, request_id_of
from hub.handshakes import Greeter
from hub.hub import Hub
from hub.keepalive import Pulse, PulseTimes
from hub.link_profile import GoodLink, LinkProfile, profile_of
from hub.rates import InboundLimits
from hub.rebalance import may_rehome
from hub.refusals import Refusal
from hub.registry import Waiting
from hub.session import Session
from hub.settings import Settings
from hub.window import WindowLimits
from hub.wire import text_bytes
from shared.asgi_server import bind
from shared.bus.message import connection_message
from shared.bus.publisher import Publisher
from shared.bus.reader import SlotReader
from shared.clock import monotonic, wall
from shared.hash_slots import slot_of
from shared.protocol.close_codes import CloseCode
from shared.protocol.frames import Welcome, encode_frame
from shared.protocol.ids import time_ordered_uuid
from shared.protocol.resume import Implausible, LogLossSuspected
from shared.store import devices, log
from shared.store.cursors import Greeted, Greeting
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.telemetry.metrics import (
    HUB_BACKLOG_SIZE,
    HUB_CLOSES,
    HUB_GREETING_SECONDS,
    HUB_HANDSHAKES,
    HUB_HANDSHAKES_REFUSED,
    HUB_RESETS,
)
from shared.tokens import KeyRing

__all__ = ["Endpoint"]

_log = structlog.get_logger(__name__)

WRITE_SLACK_BYTES = 512 * 1024


class _Nobody:
    """Owns a socket until it is accepted, or for ever when it is refused."""

    def __init__(self, endpoint: "Endpoint") -> None:
        self._endpoint = endpoint

    def on_ack(self, seq: int) -> None:
        raise AssertionError("a frame before the upgrade")

    def on_text(self, text: bytes) -> None:
        raise AssertionError("a frame before the upgrade")

    def on_much(self) -> None:
        raise AssertionError("a frame before the upgrade")

    def on_closing(self) -> None:
        raise AssertionError("a frame before the upgrade")

    def on_lost(self, socket: DeviceSocket) -> None:
        self._endpoint.on_lost(socket)


class _Dismissed:
    """Owns a socket that was accepted only to be closed; what still comes in is nobody's."""

    def __init__(self, endpoint: "Endpoint") -> None:
        self._endpoint = endpoint

    def on_ack(self, seq: int) -> None: ...
    def on_text(self, text: bytes) -> None: ...
    def on_much(self) -> None: ...
    def on_closing(self) -> None: ...
    def on_lost(self, socket: DeviceSocket) -> None:
        self._endpoint.on_lost(socket)


class Endpoint:
    """`start()` listens, `close()` stops listening; connections live on until the hub ends them."""

    def __init__(
        self,
        settings: Settings,
        *,
        pool: Pool,
        hub: Hub,
        greeter: Greeter,
        reader: SlotReader,
        publisher: Publisher,
        tokens: KeyRing,
        tickets: KeyRing,
        gate: Gate,
        rand: Random,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._hub = hub
        self._greeter = greeter
        self._reader = reader
        self._publisher = publisher
        self._tokens = tokens
        self._tickets = tickets
        self._gate = gate
        self._rand = rand
        inbound = InboundLimits(
            settings.inbound_frames_per_s,
            settings.inbound_frames_burst,
            settings.inbound_bytes_per_s,
            settings.inbound_bytes_burst,
            settings.window_events,
        )
        self._socket_limits = SocketLimits(
            request_s=settings.handshake_s,
            close_s=settings.close_s,
            write_max_bytes=settings.window_max_bytes + WRITE_SLACK_BYTES,
            first_look_bytes=inbound.first_look_bytes,
        )
        self._window = WindowLimits(settings.window_events, settings.window_first_bytes, settings.window_max_bytes)
        self._pulse_times = PulseTimes(settings.heartbeat_s, settings.pong_s)
        self._good_link = GoodLink(settings.heartbeat_s, settings.pong_s, settings.window_first_bytes)
        self._times = ConnectionTimes(
            settings.patience_s, settings.patience_s / 6, self._good_link, settings.window_max_bytes, inbound
        )
        self._extensions = [DeflateFactory()] if settings.compression else []
        self._nobody = _Nobody(self)
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
            self._hub.flusher,
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
        began = monotonic()
        try:
            async with asyncio.timeout(self._settings.handshake_s * 0.95):
                refusal = await self._greet(socket, request)
        except TimeoutError:
            refusal = Refusal("unavailable", "the handshake took too long", reason="deadline")
        except StoreError:
            refusal = Refusal("unavailable", "the log cannot be asked now", reason="store")
        except HubError as error:
            refusal = Refusal("unavailable", str(error), reason="crowded" if isinstance(error, Crowded) else "changing")
        if refusal is not None:
            self._refuse(socket, request, refusal)
        else:
            HUB_GREETING_SECONDS.observe(monotonic() - began)

    async def _greet(self, socket: DeviceSocket, request: Request) -> Refusal | None:
        headers = request.headers
        try:
            offered = [name for value in headers.get_all("Sec-WebSocket-Protocol") for name in parse_subprotocol(value)]
        except InvalidHeader:
            return Refusal("invalid-request", "Sec-WebSocket-Protocol is malformed", reason="subprotocol")
        upgrade = ",".join(headers.get_all("Upgrade")) or None
        asked = read_request(request.path, method=request.method, upgrade=upgrade, offered=offered)
        if isinstance(asked, Refusal):
            return asked
        if self._gate.refusal is not None:
            return self._gate.refusal
        upgraded = socket.judge_upgrade(request)
        if upgraded.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            detail = (
                "Connection, Sec-WebSocket-Key and Sec-WebSocket-Version: 13 must be as RFC 6455, section 4.1, says"
            )
            return Refusal("invalid-request", detail, reason="upgrade")
        admitted = admit(
            asked,
            authorization=headers.get_all("Authorization"),
            offered=offered,
            tokens=self._tokens,
            tickets=self._tickets,
            now=wall(),
        )
        if isinstance(admitted, Refusal):
            return admitted
        registry = self._hub.registry
        if registry.is_crowded(asked.device_id):
            return Refusal("too-many-handshakes", "wait for the answer to an earlier handshake of this device")
        if not registry.has_room(asked.device_id):
            return Refusal("full", "the hub is full; ask for the assignment again")
        waiting = registry.begin(asked.device_id)
        slot = slot_of(asked.device_id)
        self._reader.acquire(slot)
        welcomed = False
        try:
            await self._reader.wait_confirmed(slot, self._settings.subscribe_s if self._reader.reaches(slot) else 0.0)
            outcome = await self._welcome(socket, upgraded, admitted, waiting)
            welcomed = outcome is None
            return outcome
        finally:
            registry.leave(waiting)
            if not welcomed:
                self._reader.release(slot)

    async def _welcome(
        self, socket: DeviceSocket, upgraded: Response, admitted: Admitted, waiting: Waiting
    ) -> Refusal | None:
        asked, credential = admitted.asked, admitted.credential
        instance = asked.instance or str(uuid4())
        greeting = Greeting(
            asked.device_id,
            instance,
            asked.attempt,
            self._settings.name,
            credential.ticket_id,
            credential.ticket_expires_at,
            credential.issued_at,
            credential.token_id,
        )
        # Its first valid token makes a device.
        device_class = credential.device_class or devices.DEFAULT_CLASS
        greeted = await self._greeter.greet(greeting, device_class=device_class)
        refusal = _refused_by_statement(greeted)
        if refusal is not None:
            return refusal
        try:
            outcome = self._flapping(greeted) or await self._begin_connection(
                socket, upgraded, admitted, waiting, greeted=greeted, instance=instance
            )
        except BaseException:
            # The statement has made it the device's newest connection. There will be none, and it is not to blame.
            self._hub.acks.departed(asked.device_id, greeted.conn_term, excused=True)
            raise
        if outcome is not None:
            # A device that is told that it flaps and does not heed it goes on flapping.
            excused = outcome.slug not in ("flapping", "unavailable")
            self._hub.acks.departed(asked.device_id, greeted.conn_term, excused=excused)
        return outcome

    def _flapping(self, greeted: Greeted) -> Refusal | None:
        if not self._settings.flaps_max or greeted.flaps <= self._settings.flaps_max:
            return None
        return Refusal("flapping", "this device connects too often; go on by REST for a while")

    async def _begin_connection(
        self,
        socket: DeviceSocket,
        upgraded: Response,
        admitted: Admitted,
        waiting: Waiting,
        *,
        greeted: Greeted,
        instance: str,
    ) -> Refusal | None:
        asked, credential = admitted.asked, admitted.credential
        self._publisher.offer(connection_message(asked.device_id, greeted.conn_term, instance, self._settings.name))
        greeted, beginning = await self._begin(asked, greeted)
        if isinstance(beginning, Refusal):
            return beginning
        # Nothing is awaited from here on.
        newest = self._hub.registry.get(asked.device_id)
        overtaken = max(waiting.conn_term, newest.conn_term if newest is not None else 0) > greeted.conn_term
        if overtaken:
            return Refusal(
                "older-attempt", "a newer connection of this device was welcomed meanwhile", reason="overtaken"
            )
        if waiting.heard[0] > greeted.epoch:
            raise NotAnswered("the log's epoch was raised meanwhile; try again")
        if waiting.is_doubted or not is_signed(credential, tokens=self._tokens, tickets=self._tickets):
            raise NotAnswered("tokens of the device were revoked meanwhile; try again")
        if self._gate.refusal is not None or not socket.is_asking:
            return self._gate.refusal or Refusal("unavailable", "the client has gone", reason="gone")
        rtt_s = socket.link().rtt_s
        profile = profile_of(self._good_link, rtt_s=rtt_s, flaps=greeted.flaps)
        session = Session(
            epoch=greeted.epoch,
            start=beginning.position.seq,
            head=greeted.head,
            acked=greeted.acked,
            conn_term=greeted.conn_term,
            instance=instance,
            limits=self._window_of(profile),
            heard=waiting.heard[1] if waiting.heard[0] == greeted.epoch else 0,
        )
        connection = Connection(
            socket=socket,
            session=session,
            credential=credential,
            device_class=sys.intern(greeted.device_class),
            pulse=Pulse(self._pulse_times_of(profile), monotonic(), luck=self._rand.random()),
            rtt_s=rtt_s,
            flaps=greeted.flaps,
            tokens=self._tokens,
            tickets=self._tickets,
            times=self._times,
            hub=self._hub,
            may_rehome=may_rehome(named=asked.hub is not None, since_rehomed_s=greeted.since_rehomed_s),
        )
        socket.accept(upgraded, self._first_frames(greeted, beginning, profile.heartbeat_s))
        socket.owner = connection
        HUB_BACKLOG_SIZE.observe(session.head - session.sent)
        self._hub.welcome(connection)
        return None

    async def _begin(self, asked: Asked, greeted: Greeted) -> tuple[Greeted, Begin | Refusal]:
        """Judge the position; one above the log raises the device's epoch first."""
        log_loss = False
        for _ in range(3):
            judged = begin(
                asked.after,
                epoch=greeted.epoch,
                floor=greeted.floor,
                head=greeted.head,
                acked=greeted.acked,
                log_loss=log_loss,
            )
            if isinstance(judged, Begin):
                return greeted, judged
            if isinstance(judged, Implausible):
                return greeted, Refusal(
                    "invalid-parameter",
                    "after is a position that this log cannot have given",
                    reason="after",
                    field="after",
                )
            greeted = await self._raise_epoch(asked.device_id, greeted, judged)
            log_loss = True
        raise NotAnswered("the log's epoch is changing; try again")

    async def _raise_epoch(self, device_id: str, greeted: Greeted, suspected: LogLossSuspected) -> Greeted:
        raised = await log.raise_device_epoch(
            self._pool, device_id, seen_epoch=greeted.epoch, claimed_epoch=suspected.claimed_epoch
        )
        _log.warning("device is ahead of the log", device_id=device_id, epoch=greeted.epoch, raised_to=raised)
        pages = await log.read_pages(self._pool, [log.PageRequest(device_id, 0, max_rows=0)])
        page = pages.get(device_id)
        if page is None:
            raise NotAnswered("the device is no longer in the log")
        return greeted._replace(epoch=page.epoch, floor=page.floor, head=page.head, acked=page.acked)

    def _window_of(self, profile: LinkProfile) -> WindowLimits:
        # Nearly all links are good ones, and share what was made for them.
        if profile.first_bytes == self._window.first_bytes:
            return self._window
        return replace(self._window, first_bytes=profile.first_bytes)

    def _pulse_times_of(self, profile: LinkProfile) -> PulseTimes:
        times = PulseTimes(profile.heartbeat_s, profile.answer_s)
        return self._pulse_times if times == self._pulse_times else times

    def _first_frames(self, greeted: Greeted, beginning: Begin, heartbeat_s: float) -> bytes:
        settings = self._settings
        welcome = Welcome(
            session=str(time_ordered_uuid(wall(), self._rand)),
            hub=settings.name,
            position=str(beginning.position),
            acked=greeted.acked,
            head=greeted.head,
            heartbeat_s=round(heartbeat_s, 2),
            window=settings.window_events,
            ack_every=settings.ack_every,
            ack_ms=settings.ack_ms,
            jitter_s=settings.jitter_s,
        )
        frames = text_bytes(encode_frame(welcome))
        if beginning.reset is not None:
            HUB_RESETS.labels(beginning.reset.reason).inc()
            frames += text_bytes(encode_frame(beginning.reset))
        return frames

    def _dismiss(self, socket: DeviceSocket, request: Request) -> None:
        """Say it by a close code: a browser is not told the status of a refused handshake."""
        HUB_CLOSES.labels(str(int(CloseCode.FLAPPING))).inc()
        socket.owner = _Dismissed(self)
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


def _refused_by_statement(greeted: Greeted) -> Refusal | None:
    match greeted.verdict:
        case "ok":
            return None
        case "ticket_used":
            return Refusal("ticket-used", "a ticket opens one socket; ask for the assignment again")
        case "older_attempt":
            return Refusal("older-attempt", "a newer attempt of this instance was here")
        case "unknown_device":
            return Refusal("unavailable", "the device could not be made; try again", reason="device")
        case "revoked":
            return Refusal("unauthorized", "the token was revoked", reason="revoked")
