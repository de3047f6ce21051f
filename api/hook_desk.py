"""Wakes feeds for providers that called: whose secret it is, a hint in Postgres, and then a word on the bus.

Calls that come at the same time share their statements, and those about one feed are one hint, so a storm of calls
costs a few small statements. What `wake` returns for is durable; the bus only makes it fast.
"""

from collections.abc import Mapping, Sequence

from api.asked_together import AskedTogether
from api.hook_calls import same_secret
from shared.bus.message import feed_message
from shared.bus.names import feed_channel
from shared.bus.publisher import Publisher
from shared.cloud.hook_secret import feed_of_secret
from shared.store import feed_hints, feeds
from shared.store.feed_hints import Hint
from shared.store.pool import Pool

__all__ = ["HookDesk"]


class HookDesk:
    """`feed_of` says whose a secret is; `wake` leaves a hint. Both raise StoreError."""

    def __init__(self, pool: Pool, publisher: Publisher) -> None:
        self._pool = pool
        self._publisher = publisher
        self._secrets: AskedTogether[str, str] = AskedTogether(self._look_up, name="hook secrets")
        # Only calls write these rows, so one statement waits for another at most; while it does, the next one can go.
        self._hints: AskedTogether[Hint, bool] = AskedTogether(self._leave, name="feed hints")

    def __repr__(self) -> str:
        return f"HookDesk({self._secrets!r}, {self._hints!r})"

    async def feed_of(self, secret: str | None) -> str | None:
        """The feed whose secret this is, or None."""
        feed_id = feed_of_secret(secret or "")
        known = await self._secrets.ask(feed_id) if feed_id is not None else None
        return feed_id if same_secret(known, secret) else None

    async def of_partitions(self, provider: str, partitions: set[int]) -> list[str]:
        """The feeds of a store that is split by device."""
        return await feed_hints.of_partitions(self._pool, provider, partitions)

    async def wake(self, hint: Hint) -> bool:
        """Leave the hint. False when all it says was known: the call is a repetition."""
        return bool(await self._hints.ask(hint))

    async def _look_up(self, feed_ids: Sequence[str]) -> Mapping[str, str]:
        return await feeds.hook_secrets(self._pool, feed_ids)

    async def _leave(self, hints: Sequence[Hint]) -> Mapping[Hint, bool]:
        woken = await feed_hints.hint(self._pool, hints)
        for feed_id, moment in woken.items():
            self._publisher.offer_to(feed_channel(), feed_message(feed_id, moment))
        return {hint: hint.feed_id in woken for hint in hints}
