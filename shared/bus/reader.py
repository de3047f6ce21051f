"""The hub's ear: one connection that reads the slots its devices are in, and says when it may have missed something.

May lose, repeat, delay; never reorders what one publisher sent to one slot. Every break (connection lost,
subscription ended by Redis, refused) is a gap: `on_gap(slots)` comes when those slots are live again, and the one who
is told reads the log. Messages reach `on_message` by a plain call from the socket's read, with no queue and no task
between.
"""

import asyncio
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Any, Final

import hiredis
import structlog

from shared.backoff import Backoff
from shared.bus import resp
from shared.bus.client import Endpoint
from shared.bus.message import CONNECTION, InvalidMessage, decode
from shared.bus.names import slot_channel, slot_of_channel
from shared.bus.subscriptions import Subscriptions
from shared.clock import monotonic
from shared.telemetry.metrics import BUS_CONNECTED, BUS_GAPS, BUS_MALFORMED, BUS_RECEIVED, BUS_RECONNECTS

__all__ = ["SlotReader"]

_ROLE: Final = "reader"
_TICK_S: Final = 0.25

_log = structlog.get_logger(__name__)

OnMessage = Callable[[int, str, int, int, bytes], None]
OnGap = Callable[[frozenset[int]], None]


class SlotReader:
    """Reads slots from one Redis. `run()` is its task, `close()` ends it.

    One Redis or one shard for now: with more, there is one reader per node and a map from slot to node before them.
    """

    def __init__(
        self,
        url: str,
        *,
        on_message: OnMessage,
        on_gap: OnGap,
        on_batch_end: Callable[[], None] | None = None,
        name: str = "reader",
        rand: Random | None = None,
        linger_s: float = 30.0,
        deadline_s: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`on_message(kind, device_id, epoch, seq, body)` and `on_gap(slots)` must not block.

        `on_batch_end()` comes after the last message of each read from the socket. `deadline_s` bounds connecting and
        each confirmation.
        """
        self._endpoint = Endpoint.from_url(url)
        self._name = name
        self._on_message = on_message
        self._on_gap = on_gap
        self._on_messages_end = on_batch_end
        self._deadline_s = deadline_s
        self._clock = clock
        self._backoff = Backoff(rand or SystemRandom(), base=0.05, cap=0.5)
        self._subscriptions = Subscriptions(linger_s=linger_s)
        self._connection: resp.Connection | None = None
        self._waiters: dict[bytes, list[asyncio.Future[None]]] = {}
        self._channels: dict[bytes, OnMessage] = {}
        self._on_connection: Callable[[bool], None] = lambda is_up: None
        self._received = 0
        self._is_changed = False
        self._overdue_ticks = 0
        self._lost = asyncio.Event()
        self._closed = asyncio.Event()

    def __repr__(self) -> str:
        state = "connected" if self._connection else "not connected"
        return f"SlotReader({state}, {self._subscriptions!r})"

    @property
    def connected(self) -> bool:
        """Whether there is a connection now. That it delivers is for the canary to show."""
        return self._connection is not None

    def acquire(self, slot: int) -> None:
        """One more device of this slot is here. Then `await wait_confirmed(slot)`, then read the log."""
        self._subscriptions.acquire(slot_channel(slot), self._clock())
        self._write_commands()

    def release(self, slot: int) -> None:
        """One device less. The slot stays subscribed for a while."""
        self._subscriptions.release(slot_channel(slot), self._clock())

    def is_confirmed(self, slot: int) -> bool:
        """Whether the slot is subscribed, as far as Redis said."""
        return self._subscriptions.is_confirmed(slot_channel(slot))

    async def wait_confirmed(self, slot: int, deadline_s: float) -> bool:
        """True once the slot is subscribed; False after `deadline_s`, and then `on_gap` comes when it is."""
        channel = slot_channel(slot)
        if self._subscriptions.is_confirmed(channel):
            return True
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(channel, []).append(confirmed)
        try:
            async with asyncio.timeout(deadline_s):
                await confirmed
        except TimeoutError:
            self._subscriptions.owe(channel)
            return False
        finally:
            self._forget_waiter(channel, confirmed)
        return True

    def acquire_channel(self, channel: bytes, on_message: OnMessage) -> None:
        """Also read a channel that is no slot's, for example of notices, until `release_channel`.

        Its messages go to its own `on_message`, except events and newer connections: those are about a device wherever
        they come by. A break is not told: what is published meanwhile is lost.
        """
        if channel in self._channels:
            raise AssertionError(f"{channel!r} is read already")
        self._channels[channel] = on_message
        self._subscriptions.acquire(channel, self._clock())
        self._write_commands()

    def release_channel(self, channel: bytes) -> None:
        """Read it no more."""
        del self._channels[channel]
        self._subscriptions.release(channel, self._clock())

    def listen_for_canaries(
        self, channel: bytes, on_canary: Callable[[int, bytes], None], on_connection: Callable[[bool], None]
    ) -> None:
        """Also read the hub's own canary channel, on this very connection. Called once, before `run()`."""
        self._on_connection = on_connection
        self.acquire_channel(channel, lambda kind, device_id, epoch, seq, body: on_canary(seq, body))

    def reconnect(self, reason: str) -> None:
        """Give this connection up and make another: it looks alive and does not deliver."""
        if self._connection is not None:
            _log.warning("bus connection given up", reason=reason)
            self._connection.abort()

    async def run(self) -> None:
        """Keep a connection until `close()`."""
        try:
            while not self._closed.is_set():
                await self._connect_once()
        finally:
            self._disconnect()

    async def close(self) -> None:
        """Read nothing more and end `run()`."""
        self._closed.set()
        self._lost.set()
        self._disconnect()

    async def _connect_once(self) -> None:
        self._lost.clear()
        try:
            connection = await resp.connect(
                self._endpoint,
                deadline_s=self._deadline_s,
                name=self._name,
                on_reply=self._on_reply,
                on_push=self._on_push,
                on_batch_end=self._on_batch_end,
                on_lost=self._on_lost,
            )
        except (OSError, resp.RedisRefused) as error:
            delay = self._backoff.next()
            if self._backoff.attempt == 1:
                _log.warning("cannot connect to Redis", role=_ROLE, redis=str(self._endpoint), error=repr(error))
            await self._wait(self._closed, delay)
            return
        if self._closed.is_set():
            connection.abort()
            return
        self._connection = connection
        self._overdue_ticks = 0
        BUS_CONNECTED.labels(_ROLE).set(1)
        if self._backoff.attempt:
            _log.info("connected to Redis again", role=_ROLE)
        self._subscriptions.on_connected(self._clock())
        self._write_commands()
        self._on_connection(True)
        while not await self._wait(self._lost, _TICK_S):
            self._tick()
        if not self._closed.is_set():
            BUS_RECONNECTS.labels(_ROLE).inc()
            await self._wait(self._closed, self._backoff.next())

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def _tick(self) -> None:
        now = self._clock()
        self._subscriptions.on_tick(now)
        self._write_commands()
        asked_at = self._subscriptions.oldest_question()
        overdue = asked_at is not None and now - asked_at > self._deadline_s
        # Twice in a row: after a stall of this process the answers lie unread in the socket at the first tick.
        self._overdue_ticks = self._overdue_ticks + 1 if overdue else 0
        if self._overdue_ticks >= 2:
            self.reconnect("a subscription was not confirmed in time")

    def _write_commands(self) -> None:
        commands = self._subscriptions.take_commands()
        if commands and self._connection is not None:
            self._connection.write(b"".join([resp.pack(tuple(command)) for command in commands]))

    def _on_push(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == b"smessage":
            try:
                message_kind, device_id, epoch, seq, body = decode(push[2])
            except InvalidMessage:
                BUS_MALFORMED.inc()
                return
            if message_kind > CONNECTION and self._on_channel(push[1], (message_kind, device_id, epoch, seq, body)):
                return
            self._received += 1
            try:
                self._on_message(message_kind, device_id, epoch, seq, body)
            except Exception:  # noqa: BLE001 - one message must not cost the others their connection
                _log.exception("a message could not be handled", device_id=device_id, seq=seq)
        elif kind == b"ssubscribe":
            self._is_changed = True
            if self._subscriptions.on_subscribed(push[1]):
                self._wake(push[1])
        elif kind == b"sunsubscribe":
            self._is_changed = True
            if self._subscriptions.on_unsubscribed(push[1], self._clock()):
                BUS_GAPS.labels("unsubscribed").inc()
                _log.warning("Redis ended a subscription", channel=push[1])

    def _on_channel(self, channel: bytes, message: tuple[int, str, int, int, bytes]) -> bool:
        """Whether the channel has a taker of its own. Looked up for rare kinds only: events never pay for it."""
        on_message = self._channels.get(channel)
        if on_message is None:
            return False
        try:
            on_message(*message)
        except Exception:  # noqa: BLE001 - one message must not cost the others their connection
            _log.exception("a message could not be handled", channel=channel)
        return True

    def _on_reply(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._is_changed = True
            channel = self._subscriptions.on_refused(self._clock())
            BUS_GAPS.labels("refused").inc()
            _log.warning("Redis refused a subscription", channel=channel, error=str(reply))

    def _on_batch_end(self) -> None:
        if self._received:
            BUS_RECEIVED.inc(self._received)
            self._received = 0
            if self._on_messages_end is not None:
                self._on_messages_end()
        if not self._is_changed:
            return
        self._is_changed = False
        self._write_commands()
        gaps = frozenset(slot for c in self._subscriptions.take_gaps() if (slot := slot_of_channel(c)) is not None)
        if gaps:
            self._on_gap(gaps)
        if self._subscriptions.all_confirmed:
            self._backoff.reset()

    def _wake(self, channel: bytes) -> None:
        for waiter in self._waiters.pop(channel, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _forget_waiter(self, channel: bytes, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(channel)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[channel]

    def _on_lost(self) -> None:
        if not self._closed.is_set():
            BUS_GAPS.labels("connection").inc()
        self._disconnect()
        self._lost.set()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        BUS_CONNECTED.labels(_ROLE).set(0)
        self._subscriptions.on_disconnected()
        if connection is not None:
            connection.abort()
            if not self._closed.is_set():  # what we end ourselves puts nothing in doubt
                self._on_connection(False)
