"""What a step works on inside its transaction: the ledger of one feed, and the means to announce.

Behind it is Postgres; in the simulation of fault schedules it is dictionaries, under the same steps.
"""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from shared.bus.message import Message
from shared.cloud.provider import Span
from shared.store import remote_feeds, remote_items
from shared.store.phases import Phase
from shared.store.pool import Connection
from shared.store.remote_items import Folder, Found, Known, RemoteItem, Unplaced, Where
from watcher.announce import Announcement, Announcer, Appending, QueuedJob


class Ledger(Protocol):
    """The statements of remote_feeds.py and remote_items.py, for one feed and inside one transaction."""

    async def begin_full(self, generation: int, reason: str) -> None: ...

    async def paged(self, cursor: str, phase: Phase, *, more: bool, changed: bool, told: int | None) -> None: ...

    async def swept(self) -> None: ...

    async def put_folders(self, folders: Sequence[Folder], generation: int, *, unsettled: int) -> bool: ...

    async def drop_folders(self, item_ids: Sequence[str]) -> bool: ...

    async def placed(self, folder_ids: Sequence[str]) -> dict[str, Where]: ...

    async def facts(self, asked: Sequence[tuple[str, str | None, str | None]]) -> list[Known]: ...

    async def is_reserved(self, folder: str) -> bool: ...

    async def put(self, rows: Sequence[RemoteItem]) -> None: ...

    async def mark(self, item_ids: Sequence[str], generation: int) -> None: ...

    async def remove(self, item_ids: Sequence[str]) -> int: ...

    async def remove_between(self, span: Span, there: Sequence[str], limit: int) -> int: ...

    async def put_unplaced(self, rows: Sequence[Unplaced], generation: int) -> None: ...

    async def unplaced(self, above: str, limit: int) -> list[Unplaced]: ...

    async def drop_unplaced(self, item_ids: Sequence[str]) -> None: ...

    async def unsettled(self) -> tuple[str, int] | None: ...

    async def parked(self, above: str, limit: int) -> list[str]: ...

    async def park(self, folder_id: str) -> None: ...

    async def leave_below(self, folder_id: str, limit: int) -> int: ...

    async def leave(self, item_ids: Sequence[str]) -> None: ...

    async def told_again(self) -> bool: ...

    async def left(self) -> int: ...

    async def forget_folder(self, folder_id: str) -> None: ...

    async def misplaced(self, folder_id: str, path: str | None, limit: int) -> list[Found]: ...

    async def settled(self, folder_id: str) -> None: ...

    async def sweep(self, above: str, generation: int, limit: int) -> tuple[str | None, int]: ...

    async def sweep_folders(self, generation: int) -> None: ...

    async def arrivals(self, limit: int) -> list[Found]: ...

    async def put_off(self, item_ids: Sequence[str], seconds: float) -> None: ...

    async def announce(self, announced: Sequence[Announcement]) -> tuple[list[QueuedJob], list[Message]]: ...

    def new_id(self) -> UUID:
        """For what is announced."""
        ...


class SqlLedger:
    """In Postgres."""

    def __init__(self, connection: Connection, feed_id: str, store: str, announcer: Announcer) -> None:
        self._at = (connection, feed_id)
        self._connection = connection
        self._store = store
        self._announcer = announcer
        self.appending = Appending()

    async def begin_full(self, generation: int, reason: str) -> None:
        await remote_feeds.begin_full(*self._at, generation, reason)

    async def paged(self, cursor: str, phase: Phase, *, more: bool, changed: bool, told: int | None) -> None:
        await remote_feeds.paged(*self._at, cursor, phase, more=more, changed=changed, told=told)

    async def swept(self) -> None:
        await remote_feeds.swept(*self._at)

    async def put_folders(self, folders: Sequence[Folder], generation: int, *, unsettled: int) -> bool:
        return await remote_items.put_folders(*self._at, folders, generation, unsettled=unsettled)

    async def drop_folders(self, item_ids: Sequence[str]) -> bool:
        return await remote_items.drop_folders(*self._at, item_ids)

    async def placed(self, folder_ids: Sequence[str]) -> dict[str, Where]:
        return await remote_items.placed(*self._at, folder_ids)

    async def facts(self, asked: Sequence[tuple[str, str | None, str | None]]) -> list[Known]:
        return await remote_items.facts(*self._at, self._store, asked)

    async def is_reserved(self, folder: str) -> bool:
        return await remote_items.is_reserved(self._connection, self._store, folder)

    async def put(self, rows: Sequence[RemoteItem]) -> None:
        await remote_items.put(*self._at, rows)

    async def mark(self, item_ids: Sequence[str], generation: int) -> None:
        await remote_items.mark(*self._at, item_ids, generation)

    async def remove(self, item_ids: Sequence[str]) -> int:
        return await remote_items.remove(*self._at, item_ids)

    async def remove_between(self, span: Span, there: Sequence[str], limit: int) -> int:
        return await remote_items.remove_between(*self._at, (span.above, span.upto), there, limit)

    async def put_unplaced(self, rows: Sequence[Unplaced], generation: int) -> None:
        await remote_items.put_unplaced(*self._at, rows, generation)

    async def unplaced(self, above: str, limit: int) -> list[Unplaced]:
        return await remote_items.unplaced(*self._at, above, limit)

    async def drop_unplaced(self, item_ids: Sequence[str]) -> None:
        await remote_items.drop_unplaced(*self._at, item_ids)

    async def unsettled(self) -> tuple[str, int] | None:
        return await remote_items.unsettled(*self._at)

    async def parked(self, above: str, limit: int) -> list[str]:
        return await remote_items.parked(*self._at, above, limit)

    async def park(self, folder_id: str) -> None:
        await remote_items.park(*self._at, folder_id)

    async def leave_below(self, folder_id: str, limit: int) -> int:
        return await remote_items.leave_below(*self._at, folder_id, limit)

    async def leave(self, item_ids: Sequence[str]) -> None:
        await remote_items.leave(*self._at, item_ids)

    async def told_again(self) -> bool:
        return await remote_items.told_again(*self._at)

    async def left(self) -> int:
        return await remote_items.left(*self._at)

    async def forget_folder(self, folder_id: str) -> None:
        await remote_items.forget_folder(*self._at, folder_id)

    async def misplaced(self, folder_id: str, path: str | None, limit: int) -> list[Found]:
        return await remote_items.misplaced(*self._at, folder_id, path, limit)

    async def settled(self, folder_id: str) -> None:
        await remote_items.settled(*self._at, folder_id)

    async def sweep(self, above: str, generation: int, limit: int) -> tuple[str | None, int]:
        return await remote_items.sweep(*self._at, above, generation, limit)

    async def sweep_folders(self, generation: int) -> None:
        await remote_items.sweep_folders(*self._at, generation)

    async def arrivals(self, limit: int) -> list[Found]:
        return await remote_items.arrivals(*self._at, limit)

    async def put_off(self, item_ids: Sequence[str], seconds: float) -> None:
        await remote_items.put_off(*self._at, item_ids, seconds)

    async def announce(self, announced: Sequence[Announcement]) -> tuple[list[QueuedJob], list[Message]]:
        return await self._announcer.announce(self._connection, announced, self.appending)

    def new_id(self) -> UUID:
        return self._announcer.new_id()
