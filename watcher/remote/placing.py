"""Where files are: by the path their provider says, or by the folders they lie in, which may be told after them.

Everything here runs inside a step's transaction. Files that are outside the watched areas, or have left them, are
forgotten on the way; what is returned is to be judged.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from shared.cloud.provider import Changed, Removed
from shared.store import remote_items
from shared.store.remote_items import Found
from watcher.places import AREAS, Place, Refused, locate
from watcher.remote.effects import Record
from watcher.remote.judge import RemoteSeen, last_of_each
from watcher.remote.ledger import Ledger
from watcher.remote.outcome import Settled, Told

BATCH: Final = 500
SPAN_ROWS: Final = 20_000
_NEW_FOLDER_IN_RUN: Final = 0
_NEW_FOLDER: Final = 2
_GONE: Final = 3


@dataclass(frozen=True, slots=True)
class Placing:
    """For one step of a feed. `baseline`: what is found was there before us. Items in `skip` are passed by."""

    ledger: Ledger
    told: Told
    baseline: bool = False
    skip: Collection[str] = frozenset()

    async def page(self, record: Record) -> list[RemoteSeen]:
        """Folders and what is gone go into the ledger; files come back with their places."""
        told = [one for one in last_of_each(record.page.changes) if self._can_be_kept(one.item_id)]
        if record.page.span is not None:
            there = [one.item_id for one in told if isinstance(one, Changed)]
            self.told.gone += await self.ledger.remove_between(record.page.span, there, SPAN_ROWS)
        changes = [one for one in told if one.item_id not in self.skip]
        generation = record.generation
        changed = [one for one in changes if isinstance(one, Changed)]
        await self._folders(changed, [one.item_id for one in changes if isinstance(one, Removed)], record)
        files = [one for one in changed if one.kind == "file" and one.version is not None]
        parents = sorted({one.parent_id for one in files if one.path is None and one.parent_id is not None})
        where = await self.ledger.placed(parents) if parents else {}
        found, unplaced = [], []
        for one in files:
            path = one.path
            if path is None and one.parent_id is not None:
                folder = where[one.parent_id]
                if folder.path is None and not folder.outside:
                    unplaced.append(_unplaced(one))
                    continue
                path = _join(folder.path, one.name or "")
            version = one.version or ""
            sha256 = one.hashes.get("sha256")
            found.append(
                Found(
                    one.item_id,
                    path,
                    one.parent_id,
                    version,
                    one.size,
                    sha256,
                    generation=generation,
                    stand_in=one.stand_in,
                )
            )
        seen = await self._inside(found)
        if parents:
            await self.ledger.drop_unplaced([one.item_id for one in seen])
        if unplaced:
            await self.ledger.put_unplaced(unplaced, generation)
            self.told.unsettled = True
        return seen

    def _can_be_kept(self, item_id: str) -> bool:
        """Whether the database can hold it. Where ids are names, whoever may write chooses them, and one must not hold
        up all others for good."""
        if "\x00" not in item_id and _is_utf8(item_id):
            return True
        self.told.refused.append(Refused(item_id, "file_name", "its name is no text that a database holds; rename it"))
        return False

    async def _folders(self, changed: list[Changed], removed: list[str], record: Record) -> None:
        folders = [
            remote_items.Folder(one.item_id, one.parent_id, _kept(one.name), one.kind == "root")
            for one in changed
            if one.kind != "file" and one.path is None
        ]
        if folders:
            self.told.unsettled |= await self.ledger.put_folders(
                folders, record.generation, unsettled=_NEW_FOLDER_IN_RUN if record.full else _NEW_FOLDER
            )
        if removed:
            self.told.unsettled |= await self.ledger.drop_folders(removed)
            self.told.gone += await self.ledger.remove(removed)

    async def settle(self, result: Settled) -> list[RemoteSeen]:
        """A bounded part of what folders left."""
        left = await self.ledger.unsettled()
        result.more, result.to_list = True, None
        if left is None and (folder_id := await self._now_known()) is not None:
            return await self._follow(folder_id, result)
        if left is None:
            seen = await self._now_placed()
            result.doubts = seen is not None
            result.more = seen is not None
            return seen or []
        folder_id, level = left
        if level != _GONE:
            return await self._follow(folder_id, result)
        leaving = await self.ledger.leave_below(folder_id, BATCH)
        result.doubts = leaving > 0
        if leaving < BATCH:
            await self.ledger.forget_folder(folder_id)
        return []

    async def _now_known(self) -> str | None:
        """A folder that moved to where nothing was known, and now something is."""
        above = ""
        while parked := await self.ledger.parked(above, BATCH):
            above = parked[-1]
            for folder_id, where in sorted((await self.ledger.placed(parked)).items()):
                if where.path is not None or where.outside:
                    return folder_id
        return None

    async def _now_placed(self) -> list[RemoteSeen] | None:
        """Files whose folder was told after them; None when there are none."""
        above = ""
        while rows := await self.ledger.unplaced(above, BATCH):
            above = rows[-1].item_id
            folders = sorted({row.parent_id for row in rows})
            where = await self.ledger.placed(folders)
            ready = [row for row in rows if where[row.parent_id].path is not None or where[row.parent_id].outside]
            if ready:
                await self.ledger.drop_unplaced([row.item_id for row in ready])
                return await self._inside(
                    [
                        Found(
                            row.item_id,
                            _join(where[row.parent_id].path, row.name),
                            row.parent_id,
                            row.version,
                            row.size,
                            row.sha256,
                            generation=row.generation,
                            stand_in=row.stand_in,
                        )
                        for row in ready
                    ]
                )
        return None

    async def _follow(self, folder_id: str, result: Settled) -> list[RemoteSeen]:
        """Files follow a folder that moved, within what is their device's; where they may be new is then listed.

        A file that was taken out before its folder moved may be told after it, so nothing is announced by inference.
        """
        path, outside = (await self.ledger.placed([folder_id]))[folder_id]
        if path is None and not outside:
            await self.ledger.park(folder_id)
            return []
        found = await self.ledger.misplaced(folder_id, path, BATCH)
        at_home: list[Found] = []
        leaving: list[str] = []
        for one in found:
            place = locate(one.path) if one.path else None
            if isinstance(place, Place) and (place.area, place.device_id) == (one.area, one.device_id):
                at_home.append(one)
            else:
                leaving.append(one.item_id)
        if leaving:
            await self.ledger.leave(leaving)
            result.doubts = True
        if len(found) < BATCH:
            if path and await self._is_watched(path):
                result.to_list = (folder_id, path)
            else:
                await self.ledger.settled(folder_id)
        return await self._inside(at_home)

    async def _is_watched(self, path: str) -> bool:
        """Whether files below a folder could be announced."""
        if path in AREAS:
            return True
        if not isinstance(locate(path), Place):
            return False
        parts = path.split("/")
        return len(parts) < 3 or not await self.ledger.is_reserved("/".join(parts[:3]))

    async def _inside(self, found: list[Found]) -> list[RemoteSeen]:
        seen, outside = [], []
        for one in found:
            place = locate(one.path) if one.path else None
            if isinstance(place, Place) and place.name:
                seen.append(
                    RemoteSeen(
                        one.item_id,
                        place,
                        one.parent_id,
                        one.version,
                        one.size,
                        one.sha256,
                        baseline=self.baseline,
                        generation=one.generation,
                        stand_in=one.stand_in,
                    )
                )
                continue
            outside.append(one.item_id)
            if isinstance(place, Refused):
                self.told.refused.append(place)
        # By a path that was told they are gone from here. By folders only as far as these were told by now: what they
        # leave to be settled, with a listing if need be, comes before the last word.
        named = {one.item_id for one in found if one.parent_id is None}
        if gone := [item_id for item_id in outside if item_id in named]:
            self.told.gone += await self.ledger.remove(gone)
        if leaving := [item_id for item_id in outside if item_id not in named]:
            await self.ledger.drop_unplaced(leaving)
            await self.ledger.leave(leaving)
        return seen


def _kept(name: str | None) -> str:
    """A name as the database can keep it; one that had to be mended is no watched path anyway."""
    return (name or "").replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unplaced(one: Changed) -> remote_items.Unplaced:
    return remote_items.Unplaced(
        one.item_id,
        one.parent_id or "",
        _kept(one.name),
        one.version or "",
        one.size,
        one.hashes.get("sha256"),
        one.stand_in,
    )


def _join(folder: str | None, name: str) -> str | None:
    if folder is None or not name:
        return None
    return f"{folder}/{name}" if folder else name
