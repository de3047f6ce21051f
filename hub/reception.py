"""From a request to a welcomed connection, or to why there is none.

The order matters. The token is checked before anything is spent on a device; the slot is subscribed, and that
confirmed, before the greeting statement reads the log, so that whatever is recorded after its snapshot is heard; and
from the statement's answer to the first frame nothing is awaited, so that nobody can come between.
"""

import asyncio
import http
import sys
from collections.abc import Sequence
from random import Random
from uuid import uuid4

from websockets.exceptions import InvalidHeader
from websockets.headers import parse_subprotocol
from websockets.http11 import Request, Response

from hub.allowances import Allowances
from hub.beginning import find_beginning
from hub.connection import Connection
from hub.device_socket import DeviceSocket
from hub.errors import Crowded, HubError, NotAnswered
from hub.gate import Gate
from hub.greeting import Admitted, Asked, Begin, admit, is_signed, read_request, refused_by_statement
from hub.handshakes import Greeter
from hub.hub import Hub
from hub.keepalive import Pulse
from hub.link_profile import profile_of
from hub.link_watch import LinkWatch
from hub.rebalance import may_rehome
from hub.refusals import Refusal
from hub.registry import Waiting
from hub.session import Session
from hub.settings import Settings
from hub.traced import TracedConnection
from hub.validity import Validity
from hub.wire import text_bytes
from shared.bus.message import connection_message
from shared.bus.publisher import Publisher
from shared.bus.reader import SlotReader
from shared.clock import monotonic, wall
from shared.hash_slots import slot_of
from shared.key_url import KeyUrl
from shared.protocol.frames import Welcome, encode_frame
from shared.protocol.ids import time_ordered_uuid
from shared.store import devices
from shared.store.cursors import Greeted, Greeting
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.telemetry.metrics import HUB_BACKLOG_SIZE, HUB_GREETING_SECONDS, HUB_RESETS
from shared.telemetry.traces import Tracer
from shared.tokens import KeyRing

__all__ = ["Reception"]


class Reception:
    """`receive()` takes one request all the way."""

    def __init__(
        self,
        settings: Settings,
        allowances: Allowances,
        *,
        pool: Pool,
        hub: Hub,
        greeter: Greeter,
        reader: SlotReader,
        publisher: Publisher,
        tokens: KeyRing,
        tickets: KeyRing,
        key_url: KeyUrl,
        gate: Gate,
        rand: Random,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._allowances = allowances
        self._pool = pool
        self._hub = hub
        self._greeter = greeter
        self._reader = reader
        self._publisher = publisher
        self._tokens = tokens
        self._tickets = tickets
        self._key_url = key_url
        self._gate = gate
        self._rand = rand
        self._tracer = tracer

    async def receive(self, socket: DeviceSocket, request: Request) -> Refusal | None:
        """None: the device is welcomed and its connection owns the socket. Answers within the time of a handshake."""
        began = monotonic()
        try:
            async with asyncio.timeout(self._settings.handshake_s * 0.95):
                refusal = await self._greet(socket, request)
        except TimeoutError:
            return Refusal("unavailable", "the handshake took too long", reason="deadline")
        except StoreError:
            return Refusal("unavailable", "the log cannot be asked now", reason="store")
        except HubError as error:
            return Refusal("unavailable", str(error), reason="crowded" if isinstance(error, Crowded) else "changing")
        if refusal is None:
            HUB_GREETING_SECONDS.observe(monotonic() - began)
        return refusal

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
        authorization = headers.get_all("Authorization")
        admitted = self._admit(asked, authorization, offered)
        if isinstance(admitted, Refusal) and admitted.reason == "unknown_key" and await self._key_url.look():
            # The key was published since the set was fetched, maybe.
            admitted = self._admit(asked, authorization, offered)
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

    def _admit(self, asked: Asked, authorization: Sequence[str], offered: Sequence[str]) -> Admitted | Refusal:
        return admit(
            asked,
            authorization=authorization,
            offered=offered,
            tokens=self._tokens,
            tickets=self._tickets,
            now=wall(),
        )

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
        refusal = refused_by_statement(greeted)
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
        greeted, beginning = await find_beginning(self._pool, asked, greeted)
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
        profile = profile_of(self._allowances.good_link, rtt_s=rtt_s, flaps=greeted.flaps)
        session = Session(
            epoch=greeted.epoch,
            start=beginning.position.seq,
            head=greeted.head,
            acked=greeted.acked,
            conn_term=greeted.conn_term,
            instance=instance,
            limits=self._allowances.window_of(profile),
            heard=waiting.heard[1] if waiting.heard[0] == greeted.epoch else 0,
        )
        connection = (Connection if self._tracer is None else TracedConnection)(
            socket=socket,
            device_id=asked.device_id,
            session=session,
            validity=Validity(credential, tokens=self._tokens, tickets=self._tickets),
            device_class=sys.intern(greeted.device_class),
            pulse=Pulse(self._allowances.pulse_of(profile), monotonic(), luck=self._rand.random()),
            link=LinkWatch(
                self._allowances.good_link,
                rtt_s=rtt_s,
                flaps=greeted.flaps,
                heartbeat_s=profile.heartbeat_s,
                max_bytes=self._settings.window_max_bytes,
            ),
            times=self._allowances.times,
            hub=self._hub,
            may_rehome=may_rehome(named=asked.hub is not None, since_rehomed_s=greeted.since_rehomed_s),
        )
        if self._tracer is not None and isinstance(connection, TracedConnection):
            connection.trace(self._tracer, self._settings.name, self._hub.flusher.after_flush)
        socket.accept(upgraded, self._first_frames(greeted, beginning, profile.heartbeat_s))
        socket.owner = connection
        HUB_BACKLOG_SIZE.observe(session.head - session.sent)
        self._hub.welcome(connection)
        return None

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
