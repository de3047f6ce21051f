"""Renewed credentials, checked before they count: those of a few milliseconds are asked about in one statement.

A connection has at most one renewal outstanding, so what waits here is bounded by the connections. Where Postgres
cannot be asked the old credential goes on until it is over, and the device is told to try again.
"""

import asyncio
from typing import Final, Protocol

from hub.greeting import Credential
from hub.store_watch import StoreWatch
from shared.store import revocations
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.store.revocations import Presented

__all__ = ["Renewals", "Renewing", "presented"]

BATCH_MAX: Final = 500


class Renewing(Protocol):
    """A connection whose device has sent a new token."""

    @property
    def is_done(self) -> bool: ...
    def on_renewal_checked(self, credential: Credential, revoked: bool | None) -> None: ...


def presented(credential: Credential) -> Presented:
    """The credential as revocations judge it."""
    return Presented(credential.subject, credential.subject, credential.issued_at, credential.token_id)


class Renewals:
    """`ask()` queues a check, `run()` is the loop that answers; `revoked` is None when nobody could say."""

    def __init__(self, pool: Pool, watch: StoreWatch, *, pause_s: float) -> None:
        self._pool = pool
        self._watch = watch
        self._pause_s = pause_s
        self._waiting: dict[Renewing, Credential] = {}
        self._work = asyncio.Event()

    def __repr__(self) -> str:
        return f"Renewals({len(self._waiting)} wait)"

    def ask(self, connection: Renewing, credential: Credential) -> None:
        """Answer by `on_renewal_checked`, soon."""
        self._waiting[connection] = credential
        self._work.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._work.wait()
            await asyncio.sleep(self._pause_s)
            batch = self._take()
            try:
                async with self._watch.asking():
                    revoked = await revocations.revoked(self._pool, [presented(one) for one in batch.values()])
            except StoreError:
                for connection, credential in batch.items():
                    connection.on_renewal_checked(credential, None)
            else:
                for connection, credential in batch.items():
                    connection.on_renewal_checked(credential, presented(credential) in revoked)

    def _take(self) -> dict[Renewing, Credential]:
        batch = {one: self._waiting.pop(one) for one in list(self._waiting)[:BATCH_MAX]}
        if not self._waiting:
            self._work.clear()
        return {one: credential for one, credential in batch.items() if not one.is_done}
