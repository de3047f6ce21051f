"""Items of one drive below one folder: found by path or id, listed, moved, removed, folders made.

Paths are resolved by Graph itself, from the id of the root folder on, which outlives a rename of any folder above it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

from shared.cloud.errors import Misconfigured, NameTaken, NotAFile, NotFound
from shared.cloud.graph import wire
from shared.cloud.graph.client import GraphClient
from shared.cloud.graph.names import checked, encoded
from shared.cloud.paths import split_folder, split_path
from shared.cloud.provider import Object

__all__ = ["SELECT", "Items"]

SELECT: Final = "id,name,size,eTag,cTag,lastModifiedDateTime,parentReference,file,folder,root,deleted"
_PAGE: Final = 200
_FOLDERS_MAX: Final = 100_000
_HASH_LOOKS_S: Final = (0.25, 1.0, 2.0)
_HASH_LOOKS_MAX: Final = 20
_LOOKS_AT_ONCE: Final = 8
_HASHLESS_MAX: Final = 10_000
_FAIL: Final = {"@microsoft.graph.conflictBehavior": "fail"}
_FAIL_QUERY: Final = "@microsoft.graph.conflictBehavior=fail"


class Items:
    """Below the folder `root` of the drive `drive_id`."""

    def __init__(
        self,
        client: GraphClient,
        drive_id: str,
        root: str,
        *,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._drive = f"/drives/{quote(drive_id, safe='!')}"
        self._root = root
        self._sleep = sleep
        self._found_root: wire.DriveItem | None = None
        self._asking_root = asyncio.Lock()
        self._hashless: OrderedDict[tuple[str, str | None], None] = OrderedDict()
        self.root_path = root

    def __repr__(self) -> str:
        return f"Items({self._drive}, {self._root!r})"

    @property
    def drive(self) -> str:
        """The drive as part of an address."""
        return self._drive

    async def root(self) -> wire.DriveItem:
        """The folder that all paths begin at; asked for once. Raises Misconfigured when it is not there."""
        if (found := self._found_root) is not None:
            return found
        async with self._asking_root:
            # Another one may have asked while this one waited.
            return await self._ask_root() if self._found_root is None else self._found_root

    async def _ask_root(self) -> wire.DriveItem:
        where = f"{self._drive}/root" + (f":/{encoded(self._root)}" if self._root else "")
        found = await self._client.item(f"{where}?$select={SELECT}", what="its root")
        if found is None or (found.folder is None and found.root is None):
            raise Misconfigured(
                f"{self._client.store}: {self._drive} has no folder {self._root or '(its root)'!r}: make it, or "
                "look at FLEETWIRE_GRAPH_DRIVES"
            )
        self._found_root = found
        return found

    def forget_root(self) -> None:
        """It is to be asked for again: the folder that has its path may be another by now."""
        self._found_root = None

    async def at(self, path: str, action: str = "") -> str:
        """The address of a path, which is checked already."""
        above = f"{self._drive}/items/{quote((await self.root()).id, safe='!')}"
        if not path:
            return f"{above}/{action}" if action else above
        return f"{above}:/{encoded(path)}:/{action}" if action else f"{above}:/{encoded(path)}"

    def by_id(self, item_id: str, action: str = "") -> str:
        """The address of an item."""
        return f"{self._drive}/items/{quote(item_id, safe='!')}" + (f"/{action}" if action else "")

    async def look(self, path: str, object_id: str | None = None, *, content: bool = False) -> wire.DriveItem | None:
        """The item with its id, else the one at the path; None for nothing. `content`: with an address of its bytes."""
        split_path(path)
        select = _selecting(content=content)
        if object_id is not None and (found := await self._there(self.by_id(object_id) + select, path)) is not None:
            return found
        return await self._there(await self.at(path) + select, path)

    async def file(self, path: str, object_id: str | None = None, *, content: bool = False) -> wire.DriveItem | None:
        """The same, if it is a file. Raises NotAFile."""
        found = await self.look(path, object_id, content=content)
        if found is not None and found.file is None:
            raise NotAFile(f"{path!r}: a folder, or a notebook")
        return found

    async def file_by_id(self, path: str, object_id: str, *, content: bool = False) -> wire.DriveItem | None:
        """The file with this id or none, whatever is at the path. Raises NotAFile."""
        found = await self._there(self.by_id(object_id) + _selecting(content=content), path)
        if found is not None and found.file is None:
            raise NotAFile(f"{path!r}: a folder, or a notebook")
        return found

    async def with_hash(self, item: wire.DriveItem) -> wire.DriveItem:
        """A file with its hash, which Graph may take a moment to know; without, when it takes longer."""
        return (await self.with_hashes([item]))[0]

    async def with_hashes(self, files: Sequence[wire.DriveItem]) -> list[wire.DriveItem]:
        """The same for many, all of them waited for together; too many are asked for only once.

        Some files never have one: who was waited for in vain is not waited for again until it changes, and asked only
        where a row of the feed has not even its tag.
        """
        found = list(files)
        for wait_s in _HASH_LOOKS_S:
            bare = [at for at, one in enumerate(found) if not one.hashes and (self._is_new(one) or one.c_tag is None)]
            if not bare or (wait_s > _HASH_LOOKS_S[0] and len(bare) > _HASH_LOOKS_MAX):
                break
            if any(self._is_new(found[at]) for at in bare):
                await self._sleep(wait_s)
            for start in range(0, len(bare), _LOOKS_AT_ONCE):
                some = bare[start : start + _LOOKS_AT_ONCE]
                looks = (self._there(self.by_id(found[at].id) + f"?$select={SELECT}", found[at].id) for at in some)
                for at, again in zip(some, await asyncio.gather(*looks), strict=True):
                    if again is not None and again.file is not None:
                        found[at] = again
        for one in found:
            if not one.hashes:
                self._hashless[one.id, one.e_tag] = None
        while len(self._hashless) > _HASHLESS_MAX:
            self._hashless.popitem(last=False)
        return found

    def _is_new(self, item: wire.DriveItem) -> bool:
        return (item.id, item.e_tag) not in self._hashless

    def path_of(self, item: wire.DriveItem, path: str) -> str:
        """Where an item that was found by its id is now, by what it says of its parent."""
        return wire.path_within(item, self.root_path) or path

    async def list(self, folder: str) -> AsyncIterator[Object]:
        """The files in a folder and below it; nothing for one that is not there."""
        split_folder(folder)
        waiting = [(await self.at(folder, "children"), f"{folder}/" if folder else "")]
        while waiting:
            where, above = waiting.pop()
            address: str | None = f"{where}?$top={_PAGE}&$select={SELECT}"
            while address is not None:
                try:
                    page = await self._client.read("children", address, wire.ItemPage, what=folder, cost=2)
                except NotFound:
                    break
                for item in page.value:
                    if not item.name:
                        continue
                    if item.file is not None:
                        yield wire.object_of(item, above + item.name)
                    elif item.folder is not None:
                        waiting.append((self.by_id(item.id, "children"), f"{above}{item.name}/"))
                if len(waiting) > _FOLDERS_MAX:
                    raise Misconfigured(f"{self._client.store}: more than {_FOLDERS_MAX} folders wait to be listed")
                address = page.next_link

    async def make_folder(self, path: str) -> wire.DriveItem:
        """The folder there, with all above it; one that is there already serves."""
        if not path:
            return await self.root()
        found = await self._there(await self.at(path) + f"?$select={SELECT}", path)
        if found is None:
            above, _, name = path.rpartition("/")
            parent = await self.make_folder(above)
            body = {"name": name, "folder": {}, **_FAIL}
            try:
                answer = await self._client.call(
                    "folder.create",
                    "POST",
                    self.by_id(parent.id, "children"),
                    what=path,
                    body=body,
                    cost=2,
                    ok=(200, 201),
                    # A folder that was made by a try whose answer was lost is found as taken.
                    repeatable=True,
                )
                return answer.decoded(wire.DriveItem, store=self._client.store)
            except NotFound:
                self.forget_root()
                raise
            except NameTaken:
                found = await self._there(await self.at(path) + f"?$select={SELECT}", path)
        if found is None or found.folder is None:
            raise NotAFile(f"{path!r}: its name is taken by something that is no folder")
        return found

    async def move(self, path: str, to: str, object_id: str | None = None) -> wire.DriveItem:
        """Give an item another place and name. By its id, so that a repetition finds it done."""
        target = checked(to)
        item = await self.file(path, object_id)
        if item is None:
            raise NotFound(f"{path!r}: nothing is there")
        parent = await self.make_folder("/".join(target[:-1]))
        body = {"parentReference": {"id": parent.id}, "name": target[-1]}
        answer = await self._client.call(
            "item.move",
            "PATCH",
            self.by_id(item.id) + f"?{_FAIL_QUERY}",
            what=to,
            body=body,
            cost=2,
            repeatable=True,
        )
        return answer.decoded(wire.DriveItem, store=self._client.store)

    async def remove(self, item: wire.DriveItem) -> bool:
        """Into the recycle bin; False when it was gone."""
        try:
            await self._client.call("item.delete", "DELETE", self.by_id(item.id), what=item.id, cost=2, ok=(200, 204))
        except NotFound:
            return False
        return True

    async def _there(self, where: str, what: str) -> wire.DriveItem | None:
        found = await self._client.item(where, what=what)
        return None if found is None or found.deleted is not None else found


def _selecting(*, content: bool) -> str:
    """What to say of an item; the address of its content comes with everything else."""
    return "" if content else f"?$select={SELECT}"
