"""The sending side of hints by RabbitMQ: a quorum queue per queue of jobs.

The same port as Redis Streams, with the same promise. A hint counts as sent when the broker confirmed it; what it did
not confirm is sent again, until it is too old to be of use. Nobody waits for any of this.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final, NamedTuple
from uuid import UUID

import aio_pika
import structlog

from shared.backoff import Backoff
from shared.bus.hints import HINT_AGE_S, Offer
from shared.bus.waiting import happened
from shared.clock import monotonic
from shared.rabbit.address import RabbitAddress
from shared.rabbit.link import CONNECT_S, PAUSE_BASE_S, PAUSE_CAP_S, QUEUE_REFUSED, Link, open_link, queue_name, said
from shared.telemetry.metrics import (
    BUS_CONNECTED,
    BUS_DROPPED,
    BUS_PUBLISHED,
    BUS_QUEUED,
    BUS_RECONNECTS,
)

__all__ = ["RabbitHints"]

_ROLE: Final = "job_hints"
_WAITING_MAX: Final = 10_000
_BATCH: Final = 256
_DEADLINE_S: Final = 2.0
_FLUSH_S: Final = 1.0
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
        self._backoff = Backoff(self._rand, base=PAUSE_BASE_S, cap=PAUSE_CAP_S)
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
                        _log.warning("hints cannot be sent", rabbit=str(self._address), error=said(error))
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
        async with await open_link(self._address, name=self._name, deadline_s=CONNECT_S, rand=self._rand) as link:
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
                        _log.error("queue of hints is not as it must be", queue=queue_name(queue), error=said(error))
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
