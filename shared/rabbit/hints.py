"""Hints that a job waits, by a quorum queue of RabbitMQ per queue of jobs.

The same port as Redis Streams, with the same promise. A hint counts as sent when the broker confirmed it. A worker is
handed a few hints ahead, acknowledges those it used when it asks for more, and gives back the rest when it has no
room; those of one that dies go to others as soon as its connection ends.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final, NamedTuple
from uuid import UUID

import aio_pika
import structlog
from aio_pika.abc import AbstractIncomingMessage

from shared.backoff import Backoff
from shared.bus.hints import HINT_AGE_S, Offer
from shared.bus.waiting import happened
from shared.clock import monotonic
from shared.rabbit.address import RabbitAddress
from shared.rabbit.link import QUEUE_REFUSED, RABBIT_ERRORS, Link, open_link, queue_name
from shared.telemetry.metrics import (
    BUS_CONNECTED,
    BUS_DROPPED,
    BUS_MALFORMED,
    BUS_PUBLISHED,
    BUS_QUEUED,
    BUS_RECONNECTS,
    HINTS_REACHABLE,
    HINTS_TAKEN,
)

__all__ = ["RabbitHintReader", "RabbitHints"]

_ROLE: Final = "job_hints"
_WAITING_MAX: Final = 10_000
_BATCH: Final = 256
_DEADLINE_S: Final = 2.0
_CONNECT_S: Final = 5.0
_FLUSH_S: Final = 1.0
_PAUSE_BASE_S: Final = 0.1
_PAUSE_CAP_S: Final = 2.0
_PREFETCH: Final = 50
_REFUSED_S: Final = 60.0

_log = structlog.get_logger(__name__)


class _Waiting(NamedTuple):
    queue: str
    job_id: UUID
    until: float


class RabbitHints:
    """The sending side: `offer()` after the commit. `run()` is its task; `close()` flushes and ends it."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "job-hints",
        rand: Random | None = None,
        waiting_max: int = _WAITING_MAX,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`name` is shown by the broker. Opens nothing until `run()`."""
        self._address = RabbitAddress.from_url(url)
        self._name = name
        self._rand = rand or SystemRandom()
        self._waiting_max = waiting_max
        self._clock = clock
        self._backoff = Backoff(self._rand, base=_PAUSE_BASE_S, cap=_PAUSE_CAP_S)
        self._waiting: deque[_Waiting] = deque()
        self._in_flight = 0
        self._link: Link | None = None
        self._made: set[str] = set()
        # Queues that the broker will not give us as they must be, and until when they are not asked for again.
        self._refused: dict[str, float] = {}
        self._is_told = False
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._closed = asyncio.Event()
        self._published = BUS_PUBLISHED.labels(_ROLE)
        self._dropped = {
            reason: BUS_DROPPED.labels(_ROLE, reason) for reason in ("full", "expired", "refused", "closing")
        }
        BUS_QUEUED.labels(_ROLE).set_function(lambda: self.held)
        BUS_CONNECTED.labels(_ROLE).set_function(lambda: self.connected)

    def __repr__(self) -> str:
        return f"RabbitHints({self._address}, {'connected' if self.connected else 'not connected'}, {self.held} held)"

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._link is not None and not self._link.is_lost

    @property
    def held(self) -> int:
        """What was offered and not confirmed by the broker yet."""
        return len(self._waiting) + self._in_flight

    def offer(self, queue: str, job_id: UUID) -> Offer:
        """Queue a hint for the workers of `queue`. Never waits."""
        if self._closed.is_set():
            self._dropped["closing"].inc()
            return Offer.CLOSED
        if self.held >= self._waiting_max:
            self._expire()
            if self.held >= self._waiting_max:
                self._dropped["full"].inc()
                return Offer.FULL
        self._waiting.append(_Waiting(queue, job_id, self._clock() + HINT_AGE_S))
        self._drained.clear()
        self._wake.set()
        return Offer.OFFERED

    async def run(self) -> None:
        """Keep a connection and send what is offered until `close()`."""
        try:
            while not self._closed.is_set():
                try:
                    await self._send_over_one_link()
                except Exception as error:  # noqa: BLE001 - whatever the library raises: it costs hints and no process
                    if not self._is_told:
                        self._is_told = True
                        _log.warning("hints cannot be sent", rabbit=str(self._address), error=_said(error))
                self._expire()
                await happened(self._closed, self._backoff.next())
        finally:
            self._closed.set()
            self._dropped["closing"].inc(len(self._waiting))
            self._waiting.clear()

    async def close(self) -> None:
        """Give the broker a moment for what waits, then end `run()`."""
        if self.held and self.connected:
            await happened(self._drained, _FLUSH_S)
        self._closed.set()
        self._wake.set()

    async def _send_over_one_link(self) -> None:
        self._made.clear()
        async with await open_link(self._address, name=self._name, deadline_s=_CONNECT_S, rand=self._rand) as link:
            link.on_lost = self._wake.set
            if self._is_told:
                self._is_told = False
                _log.info("hints are sent again", rabbit=str(self._address))
            self._link = link
            try:
                while not self._closed.is_set():
                    self._wake.clear()
                    if link.is_lost:
                        raise ConnectionError("the broker closed the connection")
                    while self._waiting:
                        await self._send_some(link)
                        self._backoff.reset()
                    self._drained.set()
                    await self._wake.wait()
            finally:
                self._link = None
                BUS_RECONNECTS.labels(_ROLE).inc(not self._closed.is_set())

    async def _send_some(self, link: Link) -> None:
        """Send a batch and wait for its confirmations. What was not confirmed waits again, in its place."""
        self._expire()
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        if self._refused:
            batch = self._without_refused(batch)
        self._in_flight = len(batch)
        sending: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(_DEADLINE_S):
                for queue in {one.queue for one in batch} - self._made:
                    try:
                        await link.queue(queue)
                    except QUEUE_REFUSED as error:
                        self._refused[queue] = self._clock() + _REFUSED_S
                        _log.error("queue of hints is not as it must be", queue=queue_name(queue), error=_said(error))
                        raise
                    self._made.add(queue)
                sending = [asyncio.create_task(_publish(link, one)) for one in batch]
                await asyncio.gather(*sending)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            sent = {i for i, task in enumerate(sending) if not task.cancelled() and task.exception() is None}
            self._in_flight = 0
            self._published.inc(len(sent))
            self._waiting.extendleft(one for i, one in reversed([*enumerate(batch)]) if i not in sent)

    def _without_refused(self, batch: list[_Waiting]) -> list[_Waiting]:
        """One queue that somebody made otherwise must not end the link again and again for all of them."""
        now = self._clock()
        self._refused = {queue: until for queue, until in self._refused.items() if until > now}
        kept = [one for one in batch if one.queue not in self._refused]
        self._dropped["refused"].inc(len(batch) - len(kept))
        return kept

    def _expire(self) -> None:
        now = self._clock()
        while self._waiting and self._waiting[0].until <= now:
            self._waiting.popleft()
            self._dropped["expired"].inc()


async def _publish(link: Link, one: _Waiting) -> None:
    message = aio_pika.Message(str(one.job_id).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await link.channel.default_exchange.publish(message, queue_name(one.queue), mandatory=True)


class RabbitHintReader:
    """The receiving side of one worker: `wait()` is a sleep that a hint ends early.

    A task of its own keeps the connection, so that a short wait does not cut short a connecting that takes longer.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        *,
        consumer: str,
        rand: Random | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`consumer` is the worker's name. Opens nothing until `wait()`."""
        self._address = RabbitAddress.from_url(url)
        self._queue = queue
        self._consumer = consumer
        self._rand = rand or SystemRandom()
        self._clock = clock
        self._backoff = Backoff(self._rand, base=_PAUSE_BASE_S, cap=_PAUSE_CAP_S)
        self._keeper: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._arrived: deque[AbstractIncomingMessage] = deque()
        self._given: AbstractIncomingMessage | None = None
        self._is_resting = False
        self._news = asyncio.Event()
        self._turn = asyncio.Event()
        self._is_reachable = True
        self._reachable = HINTS_REACHABLE.labels(queue)
        self._taken = {how: HINTS_TAKEN.labels(queue, how) for how in ("new", "claimed")}

    def __repr__(self) -> str:
        state = "reachable" if self._link is not None else "not reachable"
        return f"RabbitHintReader({queue_name(self._queue)}, {state}, {len(self._arrived)} ahead)"

    async def wait(self, timeout_s: float, *, count: int = 50) -> list[UUID]:
        """Jobs that may wait now: at once when there are hints, else after `timeout_s` an empty list. Never raises.

        A broker that is away makes this a plain sleep.
        """
        until = self._clock() + timeout_s
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"hints of {self._queue}")
        if self._is_resting:
            self._is_resting = False
            self._turn.set()
        await self._acknowledge()
        while True:
            self._news.clear()
            if hints := self._give(count):
                return hints
            if (left := until - self._clock()) <= 0 or not await happened(self._news, left):
                return []

    async def rest(self) -> None:
        """Give back what was handed ahead, and be handed nothing until the next `wait()`. Never raises."""
        await self._acknowledge()
        self._is_resting = True
        self._turn.set()

    async def close(self) -> None:
        """End the connection: what was not acknowledged goes to the others."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper], timeout=2 * _FLUSH_S)
        self._reachable.set(0)

    async def _keep(self) -> None:
        while True:
            try:
                name = f"hints-{self._consumer}"
                async with await open_link(self._address, name=name, deadline_s=_CONNECT_S, rand=self._rand) as link:
                    await self._take_turns(link)
            except Exception as error:  # noqa: BLE001 - whatever the library raises: it costs hints and no worker
                self._say(reachable=False, error=_said(error))
            finally:
                # Void with their connection: they are handed to somebody again.
                self._link, self._given = None, None
                self._arrived.clear()
            await asyncio.sleep(self._backoff.next())

    async def _take_turns(self, link: Link) -> None:
        """Be handed hints, rest, and so on, until the link is lost."""
        link.on_lost = self._turn.set
        while True:
            async with asyncio.timeout(_CONNECT_S):
                await link.channel.set_qos(prefetch_count=_PREFETCH)
                queue = await link.queue(self._queue)
                tag = await queue.consume(self._on_message)
            self._link = link
            self._backoff.reset()
            self._say(reachable=True)
            await self._until(lambda: self._is_resting, link)
            async with asyncio.timeout(_CONNECT_S):
                await queue.cancel(tag)
                while self._arrived:
                    await self._arrived.popleft().nack(requeue=True)
            await self._until(lambda: not self._is_resting, link)

    async def _until(self, condition: Callable[[], bool], link: Link) -> None:
        while not condition():
            self._turn.clear()
            if link.is_lost:
                raise ConnectionError("the broker closed the connection")
            await self._turn.wait()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        if self._is_resting:  # it was on its way when this worker began to rest
            await message.nack(requeue=True)
            return
        self._arrived.append(message)
        self._news.set()

    def _give(self, count: int) -> list[UUID]:
        ids: list[UUID] = []
        while self._arrived and len(ids) < count:
            message = self._given = self._arrived.popleft()
            try:
                ids.append(UUID(message.body.decode("ascii")))
            except ValueError:
                BUS_MALFORMED.inc()
                continue
            self._taken["claimed" if message.redelivered else "new"].inc()
        return ids

    async def _acknowledge(self) -> None:
        given, self._given = self._given, None
        if given is None:
            return
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await given.ack(multiple=True)
        except RABBIT_ERRORS:
            pass  # the link is lost, and its keeper sees it

    def _say(self, *, reachable: bool, error: str | None = None) -> None:
        self._reachable.set(reachable)
        if reachable != self._is_reachable:
            self._is_reachable = reachable
            _log.log(20 if reachable else 30, "job hints", reachable=reachable, rabbit=str(self._address), error=error)


def _said(error: Exception) -> str:
    """What may be logged of an error: the libraries put no address with credentials in it, and this makes sure."""
    return f"{type(error).__name__}: {error}"[:300]
