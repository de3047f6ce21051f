"""When events were published: a listener of its own on the bus, beside the hubs.

It may hear nothing, as any listener of the bus may; then the stage is left out.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import redis.asyncio
import redis.exceptions
from redis.asyncio.client import PubSub

from shared.bus.message import EVENT, decode
from shared.bus.names import slot_channel
from shared.clock import wall
from shared.hash_slots import slot_of

__all__ = ["listening"]


@asynccontextmanager
async def listening(redis_url: str, device_ids: Sequence[str]) -> AsyncIterator[dict[tuple[str, int], float]]:
    """When each event of these devices was heard, by device and seq, for as long as the context lasts."""
    heard: dict[tuple[str, int], float] = {}
    async with redis.asyncio.Redis.from_url(redis_url, socket_connect_timeout=2) as client, client.pubsub() as pubsub:
        listener = None
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            await pubsub.ssubscribe(*{slot_channel(slot_of(device_id)) for device_id in device_ids})
            listener = asyncio.create_task(_listen(pubsub, heard))
        try:
            yield heard
        finally:
            if listener is not None:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)


async def _listen(pubsub: PubSub, heard: dict[tuple[str, int], float]) -> None:
    while True:
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5.0)
        if message is None or not isinstance(message.get("data"), bytes):
            continue
        with contextlib.suppress(ValueError):
            kind, device_id, _, seq, _ = decode(message["data"])
            if kind == EVENT:
                heard.setdefault((device_id, seq), wall())
