"""A document library at SharePoint, or a OneDrive for Business, as a provider: all of it or one folder of it.

Names fold case and are unique, so Graph itself refuses a second one; nothing here ever asks it to replace.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from shared.cloud.errors import ContentChanged, NotFound, StoreUnavailable
from shared.cloud.graph import changes, wire
from shared.cloud.graph.client import GraphClient
from shared.cloud.graph.errors import ENDED, error_of
from shared.cloud.graph.items import Items
from shared.cloud.graph.putting import SINGLE_MAX, Putting
from shared.cloud.graph.subscriptions import Subscriptions
from shared.cloud.graph.uploads import FRAGMENT, FRAGMENT_MAX, Uploads
from shared.cloud.hashes import Digest
from shared.cloud.provider import (
    Capabilities,
    ChangePage,
    Object,
    Offer,
    Part,
    Probe,
    Subscription,
    Upload,
    stat_of_object,
)
from shared.cloud.remote_reader import RemoteReader, digest_of_reader
from shared.cloud.store import Existed, Source, Stat, Stored

__all__ = ["CAPABILITIES", "GraphProvider"]

CAPABILITIES: Final = Capabilities(
    changes="delta",
    push=True,
    names_unique=True,
    case_sensitive=False,
    moves=True,
    hashes=frozenset({"quick_xor"}),
    single_max=SINGLE_MAX,
    part_multiple=FRAGMENT,
    part_min=FRAGMENT,
    part_max=FRAGMENT_MAX,
    parts_at_once=1,
)


class GraphProvider:
    """The files below the folder `root` of a drive. `hint_s` says how long the tenant is to be left alone by now."""

    def __init__(
        self,
        client: GraphClient,
        drive_id: str,
        root: str,
        *,
        name: str,
        who: str,
        hint_s: Callable[[], float] = lambda: 0.0,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._client = client
        self._who = who
        self._hint_s = hint_s
        self._items = Items(client, drive_id, root, sleep=sleep)
        self._uploads = Uploads(client, self._items)
        self._subscriptions = Subscriptions(client, self._items)
        self._putting = Putting(self, client, self._items)

    def __repr__(self) -> str:
        return f"GraphProvider({self.name}, {self._items!r})"

    @property
    def capabilities(self) -> Capabilities:
        """See Provider."""
        return CAPABILITIES

    async def probe(self) -> Probe:
        """See Provider."""
        answer = await self._client.call("drive", "GET", f"{self._items.drive}?$select=id,name,quota", what="its drive")
        row = answer.decoded(wire.DriveRow, store=self.name)
        await self._items.root()
        quota = row.quota or wire.Quota()
        return Probe(self._who, answer.server_time, quota.used, quota.total)

    async def close(self) -> None:
        """See Provider."""
        await self._putting.close()

    # Watching

    async def changes(self, cursor: str | None, *, partition: int | None = None) -> ChangePage:
        """See Provider."""
        return await changes.next_page(self._client, self._items, cursor, hint_s=self._hint_s())

    async def subscribe(self, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """See Provider."""
        return await self._subscriptions.subscribe(address, secret, lifetime_s=lifetime_s)

    async def renew(self, subscription: Subscription, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """See Provider."""
        return await self._subscriptions.renew(subscription, address, secret, lifetime_s=lifetime_s)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """See Provider."""
        await self._subscriptions.end(subscription)

    # Objects

    def list(self, folder: str) -> AsyncIterator[Object]:
        """See Provider."""
        return self._items.list(folder)

    async def look(self, path: str, *, object_id: str | None = None) -> Object | None:
        """See Provider."""
        item = await self._items.file(path, object_id)
        if item is None:
            return None
        found = await self._items.with_hash(item)
        return wire.object_of(found, path if object_id is None else self._items.path_of(found, path))

    async def stat(self, path: str, *, object_id: str | None = None) -> Stat | None:
        """See Provider."""
        found = await self.look(path, object_id=object_id)
        return None if found is None else stat_of_object(found)

    async def content(self, path: str, *, object_id: str | None = None) -> tuple[Stat, Digest]:
        """See Provider. Graph knows no sha256, so the bytes are read."""
        async with self._open(path, object_id) as reader:
            return reader.stat, await digest_of_reader(reader)

    def open(self, path: str, *, object_id: str | None = None) -> AbstractAsyncContextManager[RemoteReader]:
        """See Provider."""
        return self._open(path, object_id)

    @asynccontextmanager
    async def _open(self, path: str, object_id: str | None) -> AsyncIterator[RemoteReader]:
        item = await self._items.file(path, object_id, content=True)
        if item is None:
            raise NotFound(f"{path!r}: nothing is there")
        opened = await self._items.with_hash(item)
        first = [item.download_url]

        @asynccontextmanager
        async def fetch(start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
            # The address that came with the item serves once; after a break another is asked for, and whether the
            # item still is what was opened.
            url = first.pop() if first else None
            if url is None:
                url = await self._address_again(opened, path)
            async with self._client.stream_open(url, headers={"Range": f"bytes={start}-{end - 1}"}) as streamed:
                answer = streamed.answer
                is_all = answer.status == 200 and start == 0
                if answer.status != 206 and not is_all:
                    if answer.status in (200, 416):
                        raise ContentChanged(f"{path!r}: is not what it was when it was opened")
                    if answer.status in ENDED:
                        # The address is over, and maybe the file; the next try asks for both.
                        raise StoreUnavailable(f"{self.name}: {path!r}: its address is over")
                    raise error_of(answer, self.name, path)
                yield streamed.chunks()
            await self._address_again(opened, path)

        yield RemoteReader(wire.object_of(opened, path), fetch)

    async def _address_again(self, opened: wire.DriveItem, path: str) -> str | None:
        now = await self._items.file_by_id(path, opened.id, content=True)
        # By the tag: quickXorHash misses what changes alike at places that are 160 bytes apart, and may come late.
        if now is None or (now.c_tag, now.size) != (opened.c_tag, opened.size):
            raise ContentChanged(f"{path!r}: was written to, or is gone, while it was read")
        return now.download_url

    async def remove(self, path: str, *, object_id: str | None = None) -> bool:
        """See Provider. It goes into the recycle bin of the site."""
        item = await (self._items.file(path) if object_id is None else self._items.file_by_id(path, object_id))
        return item is not None and await self._items.remove(item)

    async def remove_empty(self, folder: str) -> bool:
        """See Provider. It goes into the recycle bin of the site."""
        item = await self._items.look(folder)
        if item is None:
            return True
        if item.folder is None or item.folder.get("childCount") != 0:
            return False
        await self._items.remove(item)
        return True

    async def move(self, path: str, to: str, *, object_id: str | None = None) -> Object:
        """See Provider."""
        moved = await self._items.move(path, to, object_id)
        return wire.object_of(await self._items.with_hash(moved), to)

    async def download_url(
        self, path: str, *, name: str, content_type: str, lifetime_s: float, object_id: str | None = None
    ) -> str | None:
        """Graph's own address, which lives for about an hour whatever is asked for. Raises NotFound."""
        item = await self._items.file(path, object_id, content=True)
        if item is None:
            raise NotFound(f"{path!r}: nothing is there")
        return self._client.trusted(item.download_url)

    # Putting

    async def put_new(self, path: str, source: Source, *, expect: Digest | None = None) -> Stored | Existed:
        """See store.Store."""
        return await self._putting.put_new(path, source, expect)

    # Uploads in parts

    async def begin(self, path: str, offer: Offer) -> Upload:
        """See Provider."""
        return await self._uploads.begin(path, offer)

    async def parts(self, upload: Upload) -> Sequence[Part]:
        """See Provider."""
        return await self._uploads.parts(upload)

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        """See Provider."""
        return await self._uploads.put_part(upload, start, content)

    async def finish(self, upload: Upload, parts: Sequence[Part]) -> Object:
        """See Provider."""
        return await self._uploads.finish(upload, parts)

    async def abort(self, upload: Upload) -> None:
        """See Provider."""
        await self._uploads.abort(upload)
