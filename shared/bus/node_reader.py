"""The hub's ear at one node of Redis: a connection, what is subscribed on it, and every sign that something was missed.

Messages reach `on_message` by a plain call from the socket's read, with no queue and no task between. Every break
(connection lost, subscription ended or refused by Redis) is reported as a gap once the channel is live again, and as
trouble at once, because it may mean that the channel is served elsewhere now.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from struct import error as StructError  # noqa: N812 - it is an exception
from typing import Any, Final

import hiredis
import structlog

from shared.bus import resp
from shared.bus.client import Endpoint
from shared.bus.kept_connection import KeptConnection
from shared.bus.message import CONNECTION, EVENT_TAG, HEADER_BYTES, InvalidMessage, decode, unpack_header
from shared.bus.slot_map import Address, Moved, parse_moved
from shared.bus.subscriptions import SUBSCRIBE, Subscriptions
from shared.telemetry.metrics import BUS_GAPS, BUS_MALFORMED, BUS_RECEIVED

__all__ = ["Ears", "NodeReader", "OnMessage", "Taker"]

_ROLE: Final = "reader"
_TICK_S: Final = 0.25

_log = structlog.get_logger(__name__)

OnMessage = Callable[[int, str, int, int, bytes], None]
Taker = Callable[[int, int, bytes], None]


@dataclass(frozen=True, slots=True)
class Ears:
    """What a node reader calls: for an event the one of its device, if there is one, else as for any other message.

    `messages` and `messages_end` stand around what one read brought. `channels` are those with a taker of their own.
    """

    takers: Mapping[bytes, Taker]
    message: OnMessage
    messages: Callable[[], None]
    messages_end: Callable[[], None]
    channels: dict[bytes, OnMessage]
    confirmed: Callable[[bytes], None]
    gaps: Callable[[frozenset[bytes]], None]
    moved: Callable[[Moved], None]
    trouble: Callable[[Endpoint], None]
    connection: Callable[["NodeReader", bool], None]


class NodeReader:
    """`run()` keeps the connection until `close()`. After changing `subscriptions`, `write_commands()`."""

    def __init__(
        self,
        endpoint: Endpoint,
        ears: Ears,
        *,
        name: str,
        rand: Random,
        linger_s: float,
        deadline_s: float,
        clock: Callable[[], float],
    ) -> None:
        """`deadline_s` bounds connecting and each confirmation."""
        self.endpoint = endpoint
        self.subscriptions = Subscriptions(linger_s=linger_s)
        self._ears = ears
        self._takers = ears.takers
        self._name = name
        self._deadline_s = deadline_s
        self._clock = clock
        self._kept = KeptConnection(
            endpoint,
            role=_ROLE,
            rand=rand,
            tick_s=_TICK_S,
            connect=self._connect,
            on_connected=self._on_connected,
            on_tick=self._tick,
            on_trouble=ears.trouble,
        )
        self._connection: resp.Connection | None = None
        self._received = 0
        self._counted = 0
        self._is_changed = False
        self._overdue_ticks = 0

    def __repr__(self) -> str:
        state = "connected" if self._connection else "not connected"
        return f"NodeReader({self.endpoint}, {state}, {self.subscriptions!r})"

    @property
    def connected(self) -> bool:
        """Whether there is a connection now. That it delivers is for the canary to show."""
        return self._connection is not None

    def reconnect(self, reason: str) -> None:
        """Give this connection up and make another: it looks alive and does not deliver."""
        if self._connection is not None:
            _log.warning("bus connection given up", redis=str(self.endpoint), reason=reason)
            self._connection.abort()

    async def run(self) -> None:
        """Keep a connection until `close()`."""
        try:
            await self._kept.run()
        finally:
            self._disconnect()

    def close(self) -> None:
        """Read nothing more and end `run()`."""
        self._kept.close()
        self._disconnect()

    def write_commands(self) -> None:
        """Send what `subscriptions` has to ask, all in one write."""
        commands = self.subscriptions.take_commands()
        if commands and self._connection is not None:
            self._connection.write(b"".join([resp.pack(tuple(command)) for command in commands]))

    async def _connect(self) -> resp.Connection:
        return await resp.connect(
            self.endpoint,
            deadline_s=self._deadline_s,
            name=self._name,
            on_reply=self._on_reply,
            on_push=self._on_push,
            on_batch_end=self._on_batch_end,
            on_lost=self._on_lost,
            primary=True,
        )

    def _on_connected(self, connection: resp.Connection) -> None:
        self._connection = connection
        self._overdue_ticks = 0
        self.subscriptions.on_connected(self._clock())
        self.write_commands()
        self._ears.connection(self, True)

    def _tick(self) -> None:
        # Here and not for every read: a metric costs as much as the message.
        BUS_RECEIVED.inc(self._counted)
        self._counted = 0
        now = self._clock()
        self.subscriptions.on_tick(now)
        self.write_commands()
        if self._connection is not None:
            # One that is no primary any more hears of nothing that is published, and may keep the connection.
            self._connection.write(resp.ASK_ROLE)
        asked_at = self.subscriptions.oldest_question()
        overdue = asked_at is not None and now - asked_at > self._deadline_s
        # Twice in a row: after a stall of this process the answers lie unread in the socket at the first tick.
        self._overdue_ticks = self._overdue_ticks + 1 if overdue else 0
        if self._overdue_ticks >= 2:
            self.reconnect("a subscription was not confirmed in time")

    def _on_push(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == b"smessage":
            payload = push[2]
            try:
                tag, id_length, epoch, seq = unpack_header(payload)
            except StructError:
                BUS_MALFORMED.inc()
                return
            if tag == EVENT_TAG:
                end = HEADER_BYTES + id_length
                body = payload[end:]
                taker = self._takers.get(payload[HEADER_BYTES:end])
                if taker is not None and body:  # without a body it was cut short, perhaps within the id
                    if not self._received:
                        self._ears.messages()
                    self._received += 1
                    try:
                        taker(epoch, seq, body)
                    except Exception:  # noqa: BLE001 - as below
                        _log.exception("an event could not be handled", seq=seq)
                    return
            self._on_message(push[1], payload)
        elif kind == b"ssubscribe":
            self._is_changed = True
            if self.subscriptions.on_subscribed(push[1]):
                self._ears.confirmed(push[1])
        elif kind == b"sunsubscribe":
            self._is_changed = True
            if self.subscriptions.on_unsubscribed(push[1], self._clock()):
                BUS_GAPS.labels("unsubscribed").inc()
                _log.warning("Redis ended a subscription", channel=push[1], redis=str(self.endpoint))
                self._ears.trouble(self.endpoint)

    def _on_message(self, channel: bytes, payload: bytes) -> None:
        """A message that is not simply an event for somebody here."""
        try:
            message = decode(payload)
        except InvalidMessage:
            BUS_MALFORMED.inc()
            return
        kind, device_id, _, seq, _ = message
        if kind > CONNECTION and self._on_channel(channel, message):
            return
        if not self._received:
            self._ears.messages()
        self._received += 1
        try:
            self._ears.message(*message)
        except Exception:  # noqa: BLE001 - one message must not cost the others their connection
            _log.exception("a message could not be handled", device_id=device_id, seq=seq)

    def _on_channel(self, channel: bytes, message: tuple[int, str, int, int, bytes]) -> bool:
        """Whether the channel has a taker of its own. Looked up for rare kinds only: events never pay for it."""
        on_message = self._ears.channels.get(channel)
        if on_message is None:
            return False
        try:
            on_message(*message)
        except Exception:  # noqa: BLE001 - one message must not cost the others their connection
            _log.exception("a message could not be handled", channel=channel)
        return True

    def _on_reply(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._on_refused(str(reply))
        elif not resp.Server.from_hello(reply).is_primary:
            self.reconnect("this Redis is a replica now")

    def _on_refused(self, error: str) -> None:
        self._is_changed = True
        command = self.subscriptions.on_refused(self._clock())
        moved = parse_moved(error, Address(self.endpoint.host, self.endpoint.port))
        if moved is not None:
            self._ears.moved(moved)
        if command is None or command.verb != SUBSCRIBE:
            return
        BUS_GAPS.labels("refused" if moved is None else "moved").inc()
        if moved is None:
            _log.warning("Redis refused a subscription", channel=command.channel, error=error)
            self._ears.trouble(self.endpoint)

    def _on_batch_end(self) -> None:
        if self._received:
            self._counted += self._received
            self._received = 0
            self._ears.messages_end()
        if not self._is_changed:
            return
        self._is_changed = False
        self.write_commands()
        if gaps := frozenset(self.subscriptions.take_gaps()):
            self._ears.gaps(gaps)
        if self.subscriptions.all_confirmed:
            self._kept.backoff.reset()

    def _on_lost(self) -> None:
        if not self._kept.is_closed:
            BUS_GAPS.labels("connection").inc()
        self._disconnect()
        self._kept.lost()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self.subscriptions.on_disconnected()
        if connection is not None:
            connection.abort()
            if not self._kept.is_closed:  # what we end ourselves puts nothing in doubt
                self._ears.connection(self, False)
