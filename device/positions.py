"""Where the position is kept: the port, for applications that keep it with their own data, and what the client does
without.

Whoever keeps it, the order is the same: a body's begin is noted before the body, its end after it, and an ack leaves
only when the end is durable. So what the server holds is never ahead of what a restarted device knows.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from device.position_file import PositionFile
from device.seen import InProgress, SeenEvent
from shared.protocol.position import Position

__all__ = ["FileLedger", "Ledger", "MemoryLedger", "PositionStore", "Saved", "StoreLedger"]


@dataclass(frozen=True, slots=True)
class Saved:
    """What is known at the start. `lost`: there was a position and it cannot be read any more."""

    position: Position | None = None
    seen: Sequence[SeenEvent] = ()
    begun: Sequence[InProgress] = ()
    lost: bool = False


class PositionStore(Protocol):
    """Implemented by an application that wants exactly-once effects: it commits `event.position` with what the body
    did.

    Inside the body: one transaction that writes the effects and `event.position`. The client never writes events'
    positions itself; it asks once at the start, and acks after the body.
    """

    async def load(self) -> Saved | None:
        """What was committed last: at least the position. With `seen` (the last events' fingerprints,
        `device.fingerprint`) repeats are recognised also after the server's log was restored from a copy."""

    async def reset(self, position: Position) -> None:
        """Commit this position: events before it are gone, and the state was fetched."""


class Ledger(Protocol):
    """The client's own view of a keeper."""

    async def load(self) -> Saved:
        """What is known at the start."""

    async def started(self, position: Position, fingerprint: str, *, durable: bool) -> None:
        """A body begins."""

    async def finished(self, position: Position, fingerprint: str) -> None:
        """A body has ended, or its event is not given."""

    async def reset(self, position: Position) -> None:
        """The application has seen a reset to here."""

    async def sync(self) -> None:
        """Return when all of the above is durable."""

    def close(self) -> None:
        """Let go of what is held."""


class MemoryLedger:
    """Nothing outlives the process: the next run begins at what was acked."""

    async def load(self) -> Saved:
        """Nothing."""
        return Saved()

    async def started(self, position: Position, fingerprint: str, *, durable: bool) -> None:
        """Nothing is kept."""

    async def finished(self, position: Position, fingerprint: str) -> None:
        """Nothing is kept."""

    async def reset(self, position: Position) -> None:
        """Nothing is kept."""

    async def sync(self) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to let go of."""


class StoreLedger:
    """The application keeps the position."""

    def __init__(self, store: PositionStore) -> None:
        self._store = store

    async def load(self) -> Saved:
        """What the application has committed."""
        return await self._store.load() or Saved()

    async def started(self, position: Position, fingerprint: str, *, durable: bool) -> None:
        """The application's transaction begins; it is undone if it does not end."""

    async def finished(self, position: Position, fingerprint: str) -> None:
        """The application has committed this position in the body."""

    async def reset(self, position: Position) -> None:
        """Only here the client asks the application to write."""
        await self._store.reset(position)

    async def sync(self) -> None:
        """What the application committed is durable."""

    def close(self) -> None:
        """The store is the application's."""


class FileLedger:
    """The position file, with fsync off the event loop."""

    def __init__(self, file: PositionFile) -> None:
        self._file = file
        self._syncing = asyncio.Lock()

    async def load(self) -> Saved:
        """What the last run left."""
        file = self._file
        return Saved(file.position, tuple(file.seen), tuple(file.begun), file.lost)

    async def started(self, position: Position, fingerprint: str, *, durable: bool) -> None:
        """A write into the page cache outlives this process; only at-most-once has to outlive the machine as well."""
        self._file.started(position, fingerprint)
        if durable:
            await self.sync()

    async def finished(self, position: Position, fingerprint: str) -> None:
        """Written; durable with the next `sync()`, which every ack waits for."""
        self._file.finished(position, fingerprint)

    async def reset(self, position: Position) -> None:
        """Written and durable."""
        self._file.reset(position)
        await self.sync()

    async def sync(self) -> None:
        """One fsync for all callers that wait meanwhile."""
        async with self._syncing:
            if self._file.dirty:
                await asyncio.to_thread(self._file.sync)

    def close(self) -> None:
        """Sync and unlock."""
        self._file.close()
