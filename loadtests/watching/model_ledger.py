"""What Postgres holds of feeds, as dictionaries, with transactions that are all or nothing.

The statements mean what remote_items.sql and remote_feeds.sql mean; a test plays the same pages through both.
"""

from collections.abc import Callable, Coroutine, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import UUID

from shared.bus.message import Message
from shared.cloud.provider import Span
from shared.store.errors import TermOver
from shared.store.phases import Phase
from shared.store.remote_items import Folder, Found, Known, RemoteItem, Unplaced, Where
from watcher.announce import Announcement, QueuedJob

T = TypeVar("T")

_DEPTH: int = 64


@dataclass(frozen=True)
class FolderRow:
    parent_id: str | None
    name: str
    is_root: bool
    unsettled: int
    generation: int


@dataclass(frozen=True)
class ItemRow:
    item: RemoteItem
    generation: int
    leaving: int = 0
    retry_at: float = 0.0


@dataclass(frozen=True)
class FeedRow:
    cursor: str | None = None
    phase: Phase = "changes"
    more: bool = False
    generation: int = 0
    baselined: bool = False


@dataclass
class Lease:
    owner: str | None = None
    term: int = 0
    expires_at: float = float("-inf")


@dataclass(frozen=True)
class Announced:
    """A job or an event that was committed."""

    item_id: str
    version: str
    area: str
    device_id: str
    term: int


@dataclass
class Tables:
    """All that a transaction may change, but leases."""

    feed: FeedRow = field(default_factory=FeedRow)
    folders: dict[str, FolderRow] = field(default_factory=dict)
    items: dict[str, ItemRow] = field(default_factory=dict)
    unplaced: dict[str, Unplaced] = field(default_factory=dict)
    announced: list[Announced] = field(default_factory=list)

    def copied(self) -> "Tables":
        other = copy(self)
        other.folders, other.items = dict(self.folders), dict(self.items)
        other.unplaced, other.announced = dict(self.unplaced), list(self.announced)
        return other


class ModelStore:
    """One feed's Postgres. `devices` exist; `reserved` are folders of jobs."""

    def __init__(self, devices: Sequence[str], clock: Callable[[], float] = lambda: 0.0) -> None:
        self.tables = Tables()
        self.lease = Lease()
        self.devices = set(devices)
        self.reserved: set[str] = set()
        self.baseline: set[tuple[str, str]] = set()
        """What was ever taken for older than the feed."""
        self.clock = clock

    def transaction(self, term: int, work: "Callable[[ModelLedger], Coroutine[Any, Any, T]]") -> T:
        """All or nothing, under the term. Raises TermOver and what `work` raises."""
        if self.lease.term != term:
            raise TermOver
        ledger = ModelLedger(self, self.tables.copied(), term)
        answer = run_at_once(work(ledger))
        self.tables = ledger.tables
        return answer


def run_at_once(work: Coroutine[Any, Any, T]) -> T:
    """The answer of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        answer: T = ended.value
        return answer
    raise AssertionError("inside a transaction nothing is awaited but the ledger")


class ModelLedger:
    """The ledger of a transaction that is under way."""

    def __init__(self, store: ModelStore, tables: Tables, term: int) -> None:
        self.tables = tables
        self._store = store
        self._term = term

    async def begin_full(self, generation: int, reason: str) -> None:
        self.tables.feed = replace(self.tables.feed, phase="full", generation=generation)

    async def paged(self, cursor: str, phase: Phase, *, more: bool, changed: bool, told: int | None) -> None:
        self.tables.feed = replace(self.tables.feed, cursor=cursor, phase=phase, more=more)

    async def swept(self) -> None:
        self.tables.feed = replace(self.tables.feed, phase="changes", baselined=True)

    async def put_folders(self, folders: Sequence[Folder], generation: int, *, unsettled: int) -> bool:
        left = False
        for one in folders:
            old = self.tables.folders.get(one.item_id)
            if old is None:
                level = 0 if one.is_root else unsettled
            elif old.unsettled == 3 or (old.parent_id, old.name, old.is_root) != one[1:]:
                level = 2
            elif old.generation < generation:
                level = old.unsettled
            else:
                continue
            generation_now = max(generation, old.generation if old is not None else 0)
            self.tables.folders[one.item_id] = FolderRow(one.parent_id, one.name, one.is_root, level, generation_now)
            left = left or level > 0
        return left

    async def drop_folders(self, item_ids: Sequence[str]) -> bool:
        parents = {one.parent_id for one in self.tables.unplaced.values()}
        named = (parents | {row.parent_id or "" for row in self.tables.folders.values()}) & set(item_ids)
        for item_id in named - self.tables.folders.keys():
            self.tables.folders[item_id] = FolderRow(None, "", False, 3, 0)
        found = [i for i in item_ids if i in self.tables.folders and not self.tables.folders[i].is_root]
        for item_id in found:
            self.tables.folders[item_id] = replace(self.tables.folders[item_id], unsettled=3)
        return bool(found)

    async def placed(self, folder_ids: Sequence[str]) -> dict[str, Where]:
        return {folder_id: self._where(folder_id) for folder_id in folder_ids}

    def _where(self, folder_id: str) -> Where:
        names: list[str] = []
        here: str | None = folder_id
        for _ in range(_DEPTH):
            row = self.tables.folders.get(here or "")
            if row is None:
                return Where(None, outside=False)
            if row.is_root:
                return Where("/".join(reversed(names)), outside=False)
            names.append(row.name)
            here = row.parent_id
            if here is None:
                return Where(None, outside=row.unsettled != 3)
        return Where(None, outside=False)

    async def facts(self, asked: Sequence[tuple[str, str | None, str | None]]) -> list[Known]:
        return [self._facts(*one) for one in asked]

    def _facts(self, item_id: str, device_id: str | None, folder: str | None) -> Known:
        known, reserved = device_id in self._store.devices, folder in self._store.reserved
        row = self.tables.items.get(item_id)
        if row is None:
            return Known(None, None, None, None, None, None, None, None, False, known, reserved)
        one = row.item
        return Known(
            one.version,
            one.state,
            one.path,
            one.area,
            one.device_id,
            one.size,
            one.sha256,
            one.parent_id,
            row.leaving > 0,
            known,
            reserved,
        )

    async def is_reserved(self, folder: str) -> bool:
        return folder in self._store.reserved

    async def put(self, rows: Sequence[RemoteItem]) -> None:
        self._store.baseline |= {(one.item_id, one.version) for one in rows if one.state == "baseline"}
        for one in rows:
            old = self.tables.items.get(one.item_id)
            retry_at = self._store.clock() + one.retry_s if one.retry_s is not None else 0.0
            newest = max(one.generation, old.generation if old is not None else 0)
            self.tables.items[one.item_id] = ItemRow(one, newest, retry_at=retry_at)

    async def mark(self, item_ids: Sequence[str], generation: int) -> None:
        for item_id in item_ids:
            row = self.tables.items.get(item_id)
            if row is not None and row.generation < generation:
                self.tables.items[item_id] = replace(row, generation=generation)

    async def remove(self, item_ids: Sequence[str]) -> int:
        for item_id in item_ids:
            self.tables.unplaced.pop(item_id, None)
        return sum(self.tables.items.pop(item_id, None) is not None for item_id in item_ids)

    async def remove_between(self, span: Span, there: Sequence[str], limit: int) -> int:
        known = sorted(i for i in self.tables.items if i > span.above and (span.upto is None or i <= span.upto))
        gone = [item_id for item_id in known if item_id not in there][:limit]
        for item_id in gone:
            del self.tables.items[item_id]
        return len(gone)

    async def put_unplaced(self, rows: Sequence[Unplaced], generation: int) -> None:
        for one in rows:
            self.tables.unplaced[one.item_id] = one._replace(generation=generation)
            if (row := self.tables.items.get(one.item_id)) is not None:
                newest = max(generation, row.generation)
                self.tables.items[one.item_id] = replace(row, leaving=0, generation=newest)

    async def unplaced(self, above: str, limit: int) -> list[Unplaced]:
        ids = sorted(item_id for item_id in self.tables.unplaced if item_id > above)
        return [self.tables.unplaced[item_id] for item_id in ids[:limit]]

    async def drop_unplaced(self, item_ids: Sequence[str]) -> None:
        for item_id in item_ids:
            self.tables.unplaced.pop(item_id, None)

    async def unsettled(self) -> tuple[str, int] | None:
        left = [(-row.unsettled, item_id) for item_id, row in self.tables.folders.items() if row.unsettled > 1]
        return (min(left)[1], -min(left)[0]) if left else None

    async def parked(self, above: str, limit: int) -> list[str]:
        return sorted(i for i, row in self.tables.folders.items() if row.unsettled == 1 and i > above)[:limit]

    async def park(self, folder_id: str) -> None:
        self.tables.folders[folder_id] = replace(self.tables.folders[folder_id], unsettled=1)

    def _below(self, folder_id: str) -> set[str]:
        found: set[str] = set()
        fresh = {folder_id} & self.tables.folders.keys()
        while fresh:
            found |= fresh
            fresh = {
                item_id
                for item_id, row in self.tables.folders.items()
                if row.parent_id in fresh and not row.is_root and item_id not in found
            }
        return found

    async def leave_below(self, folder_id: str, limit: int) -> int:
        below = self._below(folder_id)
        elsewhere = set(self.tables.unplaced)
        told_here = [i for i, one in self.tables.unplaced.items() if one.parent_id in below]
        for item_id in told_here:
            del self.tables.unplaced[item_id]
        rows = sorted(self.tables.items.items())
        ids = [i for i, row in rows if row.item.parent_id in below and not row.leaving and i not in elsewhere][:limit]
        ids += [item_id for item_id in told_here if item_id in self.tables.items and item_id not in ids]
        await self.leave(ids)
        return len(ids)

    async def leave(self, item_ids: Sequence[str]) -> None:
        for item_id in item_ids:
            if item_id in self.tables.items:
                self.tables.items[item_id] = replace(self.tables.items[item_id], leaving=1)

    async def told_again(self) -> bool:
        leaving = [item_id for item_id, row in self.tables.items.items() if row.leaving == 1]
        for item_id in leaving:
            self.tables.items[item_id] = replace(self.tables.items[item_id], leaving=2)
        return bool(leaving)

    async def left(self) -> int:
        gone = [item_id for item_id, row in self.tables.items.items() if row.leaving == 2]
        for item_id in gone:
            del self.tables.items[item_id]
        return len(gone)

    async def forget_folder(self, folder_id: str) -> None:
        self.tables.folders.pop(folder_id, None)

    async def misplaced(self, folder_id: str, path: str | None, limit: int) -> list[Found]:
        below = self._below(folder_id)
        found = []
        for item_id, row in sorted(self.tables.items.items()):
            one = row.item
            if one.parent_id not in below or row.leaving or item_id in self.tables.unplaced:
                continue
            new_path = None
            if path is not None:
                folder = self._where(one.parent_id or "").path
                new_path = f"{folder}/{one.path.rpartition('/')[2]}"
            if new_path != one.path:
                found.append(
                    Found(item_id, new_path, one.parent_id, one.version, one.size, one.sha256, one.area, one.device_id)
                )
        return found[:limit]

    async def settled(self, folder_id: str) -> None:
        row = self.tables.folders.get(folder_id)
        if row is not None and row.unsettled < 3:
            self.tables.folders[folder_id] = replace(row, unsettled=0)

    async def sweep(self, above: str, generation: int, limit: int) -> tuple[str | None, int]:
        looked = sorted(item_id for item_id in self.tables.items if item_id > above)[:limit]
        gone = [item_id for item_id in looked if self.tables.items[item_id].generation < generation]
        for item_id in gone:
            del self.tables.items[item_id]
        return (looked[-1] if looked else None), len(gone)

    async def sweep_folders(self, generation: int) -> None:
        for item_id in [i for i, one in self.tables.unplaced.items() if one.generation < generation]:
            del self.tables.unplaced[item_id]
        for item_id in [i for i, row in self.tables.folders.items() if row.generation < generation]:
            del self.tables.folders[item_id]

    async def arrivals(self, limit: int) -> list[Found]:
        found = [
            Found(
                item_id,
                row.item.path,
                row.item.parent_id,
                row.item.version,
                row.item.size,
                row.item.sha256,
                row.item.area,
                row.item.device_id,
            )
            for item_id, row in sorted(self.tables.items.items())
            if row.item.state == "waiting"
            and not row.leaving
            and row.item.device_id in self._store.devices
            and row.retry_at <= self._store.clock()
        ]
        return found[:limit]

    async def put_off(self, item_ids: Sequence[str], seconds: float) -> None:
        for item_id in item_ids:
            row = self.tables.items[item_id]
            self.tables.items[item_id] = replace(row, retry_at=self._store.clock() + seconds)

    async def announce(self, announced: Sequence[Announcement]) -> tuple[list[QueuedJob], list[Message]]:
        for one in announced:
            place = one.place
            self.tables.announced.append(
                Announced(one.object_id or place.path, one.version, place.area, place.device_id, self._term)
            )
        return [], []

    def new_id(self) -> UUID:
        return UUID(int=0)
