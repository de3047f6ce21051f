"""One connection to RabbitMQ with one channel, and the queues of hints on it.

Whatever goes wrong with it ends all of it: there is nothing on a channel that is worth saving, since hints are sent
again or given up, and what was not acknowledged goes to another worker. So whoever has a link that failed ends it and
makes another, after a pause. aio-pika's own reconnecting is not used: its pause is fixed, and it would make every
process come back in the same second.
"""

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any, Final

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue
from yarl import URL

from shared.bus.hints import HELD_MAX
from shared.rabbit.address import RabbitAddress

__all__ = [
    "CONNECT_S",
    "PAUSE_BASE_S",
    "PAUSE_CAP_S",
    "QUEUE_REFUSED",
    "RABBIT_ERRORS",
    "Link",
    "open_link",
    "queue_name",
    "said",
]

# What using a link may raise. A channel that was closed under a caller shows as any of them.
RABBIT_ERRORS: Final = (aiormq.exceptions.AMQPError, OSError, RuntimeError)

# The broker has this queue and not as it must be, or does not let us make it.
QUEUE_REFUSED: Final = (
    aiormq.exceptions.ChannelPreconditionFailed,
    aiormq.exceptions.ChannelAccessRefused,
    aiormq.exceptions.ChannelLockedResource,
)

CONNECT_S: Final = 5.0
PAUSE_BASE_S: Final = 0.1
PAUSE_CAP_S: Final = 2.0
_HEARTBEAT_S: Final = 5
_CLOSE_S: Final = 1.0
_ARGUMENTS: Final[dict[str, Any]] = {
    # Stands on several nodes of a cluster, so that losing one of them loses no hint.
    "x-queue-type": "quorum",
    "x-max-length": HELD_MAX,
    "x-overflow": "drop-head",
    # In milliseconds. Its job has long been found by polling.
    "x-message-ttl": 60_000,
    # Handed back so often, it wakes nobody any more.
    "x-delivery-limit": 20,
}

# It says each failed attempt as an error of its own; what matters of them is said here, once.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)
logging.getLogger("aio_pika").setLevel(logging.CRITICAL)


def queue_name(queue: str) -> str:
    """The queue of hints for workers of a queue: `fleetwire.jobs.requests`."""
    return f"fleetwire.jobs.{queue}"


class Link:
    """An open connection and channel; leaving its context ends them. `on_lost` is called once when it is of no use."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        self._connection = connection
        self.channel = channel
        self.is_lost = False
        self.on_lost: Callable[[], None] = _nothing
        connection.close_callbacks.add(self._on_closed)
        channel.close_callbacks.add(self._on_closed)

    async def __aenter__(self) -> "Link":
        # A broker that ends a consumer, because its queue was removed or moved, says so and keeps the channel.
        (await self.channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(self._on_closed)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends within a second and never raises."""
        self.on_lost = _nothing
        await _close(self._connection)

    async def queue(self, queue: str) -> AbstractQueue:
        """The queue of hints, made when it is not there."""
        return await self.channel.declare_queue(queue_name(queue), durable=True, arguments=_ARGUMENTS)

    def _on_closed(self, *_: Any) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.on_lost()


def _nothing() -> None:
    pass


async def open_link(address: RabbitAddress, *, name: str, deadline_s: float, rand: Random) -> Link:
    """Connect to one of its addresses, in random order; `name` is shown there. Raises one of `RABBIT_ERRORS`."""
    hosts = list(address.hosts)
    rand.shuffle(hosts)
    error: Exception | None = None
    for host, port in hosts:
        try:
            async with asyncio.timeout(deadline_s / len(hosts)):
                return await _open(address, host, port, name)
        except RABBIT_ERRORS as reason:
            error = reason
    raise ConnectionError(f"{address} cannot be reached: {error!r}")


async def _open(address: RabbitAddress, host: str, port: int, name: str) -> Link:
    url = URL.build(
        scheme="amqps" if address.tls else "amqp",
        user=address.user,
        password=address.password,
        host=host,
        port=port,
        # In a path that begins with two of them the second is the virtual host's own.
        path=f"/{address.vhost}",
        query={"heartbeat": str(_HEARTBEAT_S)},
    )
    context = await asyncio.to_thread(address.ssl_context)
    connection = await aio_pika.connect(url, ssl_context=context, client_properties={"connection_name": name})
    try:
        return Link(connection, await connection.channel(publisher_confirms=True, on_return_raises=True))
    except BaseException:
        await _close(connection)
        raise


async def _close(connection: AbstractConnection) -> None:
    """Within a second; a broker that stands still answers nothing."""
    try:
        async with asyncio.timeout(_CLOSE_S):
            await connection.close()
    except RABBIT_ERRORS:
        pass


def said(error: Exception) -> str:
    """What may be logged of an error: the libraries put no address with credentials in it, and this makes sure."""
    return f"{type(error).__name__}: {error}"[:300]
