"""Paths and ids: the way from a path to the object that lies there, and how objects are given a name.

Folders that were found are remembered, a bounded number of them, and looked at again when they were not for a while:
people rename and move folders, and a path must not lead to where it led yesterday. `occupy` is the only way to a name.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from shared import clock
from shared.cloud.drive import wire
from shared.cloud.drive.client import DriveClient
from shared.cloud.drive.names import Claims, PremadeIds, found_by_name, one_of
from shared.cloud.errors import NameTaken, NotAFile, NotFound, StoreUnavailable
from shared.cloud.paths import MAX_COMPONENTS

__all__ = ["FolderGone", "Tree"]

T = TypeVar("T")

FOLDERS_MAX: Final = 4096
TRUSTED_S: Final = 20.0
_ROUNDS: Final = 6


class FolderGone(NotFound):
    """The folder that was known under a path is not there any more."""


@dataclass(slots=True)
class _Known:
    folder_id: str
    seen_at: float


@dataclass(frozen=True, slots=True)
class Occupied:
    """What has a name now. `made`: this call made it; `is_ours`: if not, it lies under the id that this call brought.

    Then it was made by this call, whose answer was lost, or for it by a rival, with the rival's content.
    """

    file: wire.File
    made: bool
    is_ours: bool


class Tree:
    """What lies below the folder `root_id`."""

    def __init__(
        self,
        client: DriveClient,
        claims: Claims,
        ids: PremadeIds,
        root_id: str,
        *,
        store: str,
        folders_max: int = FOLDERS_MAX,
        trusted_s: float = TRUSTED_S,
        time: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._client = client
        self._claims = claims
        self._ids = ids
        self._store = store
        self._folders_max = folders_max
        self._trusted_s = trusted_s
        self._time = time
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._asking: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self.root_id = root_id

    def __repr__(self) -> str:
        return f"Tree({self._store}, {len(self._known)} folders known)"

    async def folder(self, path: tuple[str, ...], *, make: bool = False) -> str | None:
        """The id of a folder. Raises NotAFile when something on the way is no folder."""
        at = self.root_id
        for name in path:
            found = await self._child(at, name, make=make)
            if found is None:
                return None
            at = found
        return at

    async def need_folder(self, path: tuple[str, ...]) -> str:
        """The same, made where it is missing."""
        found = await self.folder(path, make=True)
        assert found is not None
        return found

    async def within(self, path: tuple[str, ...], act: Callable[[str], Awaitable[T]]) -> T:
        """`act` in a folder, made where it is missing; once more when the one that was known turns out to be gone."""
        try:
            return await act(await self.need_folder(path))
        except FolderGone:
            return await act(await self.need_folder(path))

    async def find_path(self, path: tuple[str, ...]) -> wire.File | None:
        """What lies at a path that is to be a file's."""
        folder_id = await self.folder(path[:-1])
        return None if folder_id is None else await self.find(folder_id, path[-1], lambda one: one.is_file)

    async def find(self, folder_id: str, name: str, suits: Callable[[wire.File], bool]) -> wire.File | None:
        """What lies in a folder under a name: whose name it is by claim, else who suits and has it for longest."""
        holder = await self._claims.holder(folder_id, name)
        if holder is not None and holder.object_id is not None:
            file = await self._client.file(holder.object_id)
            if file is not None and file.lies_in(folder_id, name):
                return file
        return one_of(await found_by_name(self._client, folder_id, name), suits)

    async def occupy(self, folder_id: str, name: str, make: Callable[[str], Awaitable[wire.File]]) -> Occupied:
        """What lies there after `make(object_id)` was given the chance to make it.

        `make` raises NameTaken when that id was used before.
        """
        wanted = await self._ids.next()
        for _ in range(_ROUNDS):
            holder = await self._claims.claim(folder_id, name, wanted)
            held = holder.object_id
            if held is None:
                raise StoreUnavailable(f"{self._store}: the name {name!r} is claimed without an object")
            if held == wanted:
                # Who came past Postgres was there before us.
                if stranger := await self._stranger(folder_id, name):
                    await self._claims.replace(folder_id, name, old=held, new=stranger.id)
                    await self._claims.settle(folder_id, name, stranger.id)
                    return Occupied(stranger, made=False, is_ours=stranger.id == wanted)
            elif (file := await self._client.file(held)) is not None:
                if file.lies_in(folder_id, name):
                    return Occupied(file, made=False, is_ours=False)
                if not (holder.stored or holder.lapsed):
                    raise NameTaken(f"{self._store}: an object is on its way to the name {name!r}")
                await self._claims.replace(folder_id, name, old=held, new=wanted)
                continue
            try:
                file = await make(held)
            except NotFound as error:
                await self._claims.release(folder_id, name, held)
                raise self.gone_folder(folder_id) from error
            except NameTaken:
                # The answer to our own try was lost, or somebody made it for us; or the object was made and is gone.
                file = await self._client.file(held)
                if file is not None and file.lies_in(folder_id, name):
                    await self._claims.settle(folder_id, name, held)
                    return Occupied(file, made=False, is_ours=held == wanted)
                wanted = await self._ids.next()
                await self._claims.replace(folder_id, name, old=held, new=wanted)
                continue
            if file.trashed:
                # The folder is in the trash, and what is made there is, too.
                await self._client.delete(file.id)
                await self._claims.release(folder_id, name, held)
                raise self.gone_folder(folder_id)
            await self._claims.settle(folder_id, name, held)
            return Occupied(file, made=True, is_ours=True)
        raise StoreUnavailable(f"{self._store}: the name {name!r} goes from object to object; try again")

    async def path_of(self, file: wire.File) -> str | None:
        """Where an object lies below the root; None when it does not, or too deep for a path of ours."""
        parts: list[str] = []
        at = file
        while at.id != self.root_id:
            parts.append(at.name)
            if not at.parents or len(parts) > MAX_COMPONENTS:
                return None
            if at.parents[0] == self.root_id:
                break
            above = await self._client.file(at.parents[0])
            if above is None:
                return None
            at = above
        return "/".join(reversed(parts))

    async def give_name(self, file: wire.File, folder_id: str, name: str) -> wire.File:
        """Move an object that exists to a name. Raises NameTaken."""
        for _ in range(_ROUNDS):
            if file.lies_in(folder_id, name) and file.name == name:
                # Repeated after an answer that was lost.
                return file
            holder = await self._claims.claim(folder_id, name, file.id)
            if holder.object_id == file.id:
                break
            held = await self._client.file(holder.object_id) if holder.object_id is not None else None
            if held is not None and held.lies_in(folder_id, name):
                raise NameTaken(f"{self._store}: {name!r} is there already")
            if not (holder.stored or holder.lapsed):
                raise NameTaken(f"{self._store}: an object is on its way to the name {name!r}")
            assert holder.object_id is not None
            await self._claims.replace(folder_id, name, old=holder.object_id, new=file.id)
        else:
            raise StoreUnavailable(f"{self._store}: the name {name!r} goes from object to object; try again")
        stranger = await self._stranger(folder_id, name)
        if stranger is not None and stranger.id != file.id:
            await self._claims.replace(folder_id, name, old=file.id, new=stranger.id)
            await self._claims.settle(folder_id, name, stranger.id)
            raise NameTaken(f"{self._store}: {name!r} is there already")
        moved = await self._moved(file, folder_id, name)
        if moved.trashed:
            await self._moved(moved, file.parents[0] if file.parents else self.root_id, file.name)
            await self._claims.release(folder_id, name, file.id)
            raise self.gone_folder(folder_id)
        if not await self._claims.settle(folder_id, name, file.id):
            # We were stopped for so long that the name was given away: two would have it.
            await self._moved(moved, file.parents[0] if file.parents else self.root_id, file.name)
            raise NameTaken(f"{self._store}: {name!r} went to another meanwhile")
        return moved

    async def _moved(self, file: wire.File, folder_id: str, name: str) -> wire.File:
        is_there = folder_id in file.parents
        add = None if is_there else folder_id
        remove = None if is_there else ",".join(file.parents) or None
        try:
            return await self._client.update(file.id, {"name": name}, add=add, remove=remove)
        except (StoreUnavailable, NotFound):
            # The answer may be lost, and what is moved already has no such parent to be taken from.
            now = await self._client.file(file.id)
            if now is not None and now.lies_in(folder_id, name):
                return now
            if now is not None and await self._client.file(folder_id) is None:
                await self._claims.release(folder_id, name, file.id)
                raise self.gone_folder(folder_id) from None
            raise

    def gone_folder(self, folder_id: str) -> FolderGone:
        """The error that says so; no folder that was known is trusted after it."""
        # It may be any folder above it that went: all are looked at again.
        self._known.clear()
        return FolderGone(f"{self._store}: the folder {folder_id} is gone or in the trash")

    async def gone_empty(self, folder: wire.File) -> None:
        """The folder is not there any more."""
        self._known.clear()
        await self.gone(folder)

    async def gone(self, file: wire.File) -> None:
        """The object is not there any more: its name is free."""
        for folder_id in file.parents:
            await self._claims.release(folder_id, file.name, file.id)

    async def _stranger(self, folder_id: str, name: str) -> wire.File | None:
        found = await found_by_name(self._client, folder_id, name)
        return found[0] if found else None

    async def _child(self, parent: str, name: str, *, make: bool) -> str | None:
        key = (parent, name)
        # One asks for all who want to know: a hundred files for a new folder are no hundred questions.
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            if (known := await self._still(key)) is not None:
                return known
            found = await self.find(parent, name, lambda one: one.is_folder)
            if found is None and make:
                there = await self.occupy(parent, name, lambda made_id: self._make_folder(made_id, parent, name))
                found = there.file
            if found is None:
                return None
            if not found.is_folder:
                raise NotAFile(f"{self._store}: {name!r} is no folder")
            self._known[key] = _Known(found.id, self._time())
            while len(self._known) > self._folders_max:
                self._known.popitem(last=False)
            return found.id

    async def _still(self, key: tuple[str, str]) -> str | None:
        """The folder that was found there, if it was looked at lately or is there still."""
        known = self._known.get(key)
        if known is None:
            return None
        if self._time() - known.seen_at >= self._trusted_s:
            now = await self._client.file(known.folder_id)
            if now is None or not now.is_folder or not now.lies_in(*key):
                self._known.pop(key, None)
                return None
            known.seen_at = self._time()
        if key in self._known:
            self._known.move_to_end(key)
        return known.folder_id

    async def _make_folder(self, object_id: str, parent: str, name: str) -> wire.File:
        described = {"id": object_id, "name": name, "parents": [parent], "mimeType": wire.FOLDER}
        return await self._client.create(described, None, wire.FOLDER)
