"""Publishing to slots: `offer()` and forget. The event is recorded already; this only makes its delivery fast.

Messages of one publisher keep their order for each device. Between publishers there is none, and any message may be
lost or sent twice. A Redis that fails, hangs or is full costs a counter here and lateness there, never a wait.
"""

from random import Random, SystemRandom
from typing import Final

from shared.bus import resp
from shared.bus.command_queue import Taken
from shared.bus.message import CANARY, Message
from shared.bus.names import slot_channel
from shared.bus.routed_queue import Limits, Offer, RoutedQueue
from shared.bus.slot_map import key_slot
from shared.hash_slots import SLOTS, slot_of

__all__ = ["Limits", "Offer", "Publisher"]

_SPUBLISH: Final = b"SPUBLISH"
_KEY_SLOTS: Final = tuple(key_slot(slot_channel(slot)) for slot in range(SLOTS))


class Publisher:
    """Publishes to one Redis or to the nodes of a cluster. `run()` is its task; `close()` flushes for at most a second
    and ends it."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "publisher",
        rand: Random | None = None,
        limits: Limits | None = None,
        on_taken: Taken | None = None,
    ) -> None:
        """`name` is shown by CLIENT LIST (no blanks). Opens nothing until `run()`."""
        self._queue = RoutedQueue(
            url, role="publisher", name=name, rand=rand or SystemRandom(), limits=limits, on_taken=on_taken
        )

    def __repr__(self) -> str:
        return f"Publisher({self._queue!r})"

    @property
    def connected(self) -> bool:
        """Whether there is a connection to every node now."""
        return self._queue.connected

    @property
    def held(self) -> int:
        """What was offered and not answered by Redis yet."""
        return self._queue.held

    def offer(self, message: Message) -> Offer:
        """Queue a message for the slot of its device. Never waits."""
        slot = slot_of(message.device_id)
        return self._queue.offer(_KEY_SLOTS[slot], resp.pack((_SPUBLISH, slot_channel(slot), message.encode())))

    def offer_to(self, channel: bytes, message: Message) -> Offer:
        """Queue a message for a channel that is not its device's slot (canaries, notices)."""
        command = resp.pack((_SPUBLISH, channel, message.encode()))
        return self._queue.offer(key_slot(channel), command, is_counted=message.kind != CANARY)

    async def run(self) -> None:
        """Keep the connections and drain the queue until `close()`."""
        await self._queue.run()

    async def close(self) -> None:
        """Flush for at most a second, then end `run()`."""
        await self._queue.close()
