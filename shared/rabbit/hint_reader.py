"""The receiving side of hints by RabbitMQ, of one worker and queue.

A worker is handed a few hints ahead, acknowledges those it used when it asks for more, and gives back the rest when it
has no room; those of one that dies go to others as soon as its connection ends.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final
from uuid import UUID

import structlog
from aio_pika.abc import AbstractIncomingMessage

from shared.backoff import Backoff
from shared.bus.waiting import happened
from shared.clock import monotonic
from shared.rabbit.address import RabbitAddress
from shared.rabbit.link import CONNECT_S, PAUSE_BASE_S, PAUSE_CAP_S, RABBIT_ERRORS, Link, open_link, queue_name, said
from shared.telemetry.metrics import BUS_MALFORMED, HINTS_REACHABLE, HINTS_TAKEN

__all__ = ["RabbitHintReader"]

_ACKNOWLEDGE_S: Final = 2.0
_CLOSE_S: Final = 2.0
_PREFETCH: Final = 50

_log = structlog.get_logger(__name__)


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
        self._backoff = Backoff(self._rand, base=PAUSE_BASE_S, cap=PAUSE_CAP_S)
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
            await asyncio.wait([keeper], timeout=_CLOSE_S)
        self._reachable.set(0)

    async def _keep(self) -> None:
        while True:
            try:
                name = f"hints-{self._consumer}"
                async with await open_link(self._address, name=name, deadline_s=CONNECT_S, rand=self._rand) as link:
                    await self._take_turns(link)
            except Exception as error:  # noqa: BLE001 - whatever the library raises: it costs hints and no worker
                self._say(reachable=False, error=said(error))
            finally:
                # Void with their connection: they are handed to somebody again.
                self._link, self._given = None, None
                self._arrived.clear()
            await asyncio.sleep(self._backoff.next())

    async def _take_turns(self, link: Link) -> None:
        """Be handed hints, rest, and so on, until the link is lost."""
        link.on_lost = self._turn.set
        while True:
            async with asyncio.timeout(CONNECT_S):
                await link.channel.set_qos(prefetch_count=_PREFETCH)
                queue = await link.queue(self._queue)
                tag = await queue.consume(self._on_message)
            self._link = link
            self._backoff.reset()
            self._say(reachable=True)
            await self._until(lambda: self._is_resting, link)
            async with asyncio.timeout(CONNECT_S):
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
            async with asyncio.timeout(_ACKNOWLEDGE_S):
                await given.ack(multiple=True)
        except RABBIT_ERRORS:
            pass  # the link is lost, and its keeper sees it

    def _say(self, *, reachable: bool, error: str | None = None) -> None:
        self._reachable.set(reachable)
        if reachable != self._is_reachable:
            self._is_reachable = reachable
            _log.log(20 if reachable else 30, "job hints", reachable=reachable, rabbit=str(self._address), error=error)
