"""Tokens that name a key which is not known here: it may have been published since the set was fetched.

The device that renews its credential in band is answered after one look, shared by all that ask meanwhile. A device has
one token waiting here at most, and all of them together are bounded: one too many is refused as it is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

__all__ = ["WAITING_MAX", "KeySearch", "Seeking"]

WAITING_MAX: Final = 1000


class Seeking(Protocol):
    """A connection whose device has sent such a token."""

    def on_keys_fetched(self, token: str) -> None: ...


class KeySearch:
    """`ask()` queues a token, `run()` is the loop that looks and gives it back. `look` says whether it was worth it."""

    def __init__(self, look: Callable[[], Awaitable[bool]]) -> None:
        self._look = look
        self._waiting: dict[Seeking, str] = {}
        self._work = asyncio.Event()

    def __repr__(self) -> str:
        return f"KeySearch({len(self._waiting)} wait)"

    def ask(self, connection: Seeking, token: str) -> bool:
        """Answer by `on_keys_fetched`, soon, whatever was found. False: it is not taken."""
        if connection in self._waiting or len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting[connection] = token
        self._work.set()
        return True

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._work.wait()
            await self._look()
            self._work.clear()
            batch, self._waiting = self._waiting, {}
            for connection, token in batch.items():
                connection.on_keys_fetched(token)
