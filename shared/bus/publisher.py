"""Publishing to slots: `offer()` and forget. The event is recorded already; this only makes its delivery fast.

Messages of one publisher keep their order, per device and altogether. Between publishers there is none, and any
message may be lost or sent twice. A Redis that fails, hangs or is full costs a counter here and lateness there, never
a wait.
"""

from random import Random, SystemRandom
from typing import Final

from shared.bus import resp
from shared.bus.client import Endpoint
from shared.bus.command_queue import CommandQueue, Limits, Offer
from shared.bus.message import Message
from shared.bus.names import slot_channel
from shared.hash_slots import slot_of

__all__ = ["Limits", "Offer", "Publisher"]

_SPUBLISH: Final = b"SPUBLISH"


class Publisher:
    """Publishes on one connection. `run()` is its task; `close()` flushes for at most a second and ends it.

    One Redis or one shard for now: with more, there is one queue per node behind the same `offer()`.
    """

    def __init__(
        self, url: str, *, name: str = "publisher", rand: Random | None = None, limits: Limits | None = None
    ) -> None:
        """`name` is shown by CLIENT LIST (no blanks). Opens nothing until `run()`."""
        self._queue = CommandQueue(
            Endpoint.from_url(url), role="publisher", name=name, rand=rand or SystemRandom(), limits=limits or Limits()
        )

    def __repr__(self) -> str:
        return f"Publisher({self._queue!r})"

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._queue.connected

    @property
    def held(self) -> int:
        """What was offered and not answered by Redis yet."""
        return self._queue.held

    def offer(self, message: Message) -> Offer:
        """Queue a message for the slot of its device. Never waits."""
        return self._queue.offer(resp.pack((_SPUBLISH, slot_channel(slot_of(message.device_id)), message.encode())))

    def offer_to(self, channel: bytes, message: Message) -> Offer:
        """Queue a message for a channel that is not its device's slot (canaries)."""
        return self._queue.offer(resp.pack((_SPUBLISH, channel, message.encode())))

    async def run(self) -> None:
        """Keep a connection and drain the queue until `close()`."""
        await self._queue.run()

    async def close(self) -> None:
        """Flush for at most a second, then end `run()`."""
        await self._queue.close()
