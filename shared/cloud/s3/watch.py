"""What there is of a partition, page by page; the comparison with what is known is the watcher's.

Every run tells everything, in the order of keys. A page ends with a thousand objects or few more, and its cursor is the
last key told, so a run goes on in any process, and what a page does not tell between two keys is not there. Devices'
folders are listed several at a time and each by itself, since of every 64 devices a partition has one: a listing of
everything would bring 63 objects too many for each that is wanted, in each partition.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from shared.cloud.errors import CursorExpired
from shared.cloud.provider import Changed, ChangePage, Span
from shared.cloud.s3 import cursor as cursors
from shared.cloud.s3.devices import AREAS, Devices
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.listing import PAGE_MAX, Listing
from shared.cloud.s3.wire import Listed, ListPage, version_of
from shared.hash_slots import partition_of

__all__ = ["Watch"]

_AT_ONCE: Final = 8
_ROUND_S: Final = 0.5


class Watch:
    """Of one root."""

    def __init__(
        self, listing: Listing, keys: Keys, *, devices: Devices | None = None, page_max: int = PAGE_MAX
    ) -> None:
        self._listing = listing
        self._keys = keys
        self._page_max = page_max
        self._devices = devices or Devices(listing, keys, round_s=_ROUND_S)
        # Of runs under way, by partition: up to where they were told, and the folders they began with.
        self._runs: dict[int | None, tuple[str, Sequence[str]]] = {}

    async def close(self) -> None:
        """Ask no more."""
        await self._devices.close()

    async def changes(self, cursor: str | None, partition: int | None) -> ChangePage:
        """See provider.Provider. What is put before a run begins is seen by it."""
        after = None
        if cursor is not None and cursor != cursors.END:
            after = cursors.after_of(cursor)
            if after is None:
                raise CursorExpired("the cursor is none of S3's")
        told, folders = self._runs.pop(partition, ("", ()))
        if after is None or after != told:
            folders = await self._folders(partition)
        objects, last = await self._some(folders, after)
        changes = [change for one in objects if (change := self._changed(one)) is not None]
        span = self._span(after, last)
        if last is None:
            return ChangePage(changes, cursors.END, more=False, full=True, span=span)
        self._runs[partition] = last, folders
        return ChangePage(changes, cursors.written(last), more=True, full=True, span=span)

    def _span(self, after: str | None, last: str | None) -> Span:
        """From key to key. None of it where a key is no text that is kept anywhere: the next run may end elsewhere."""
        cut = len(self._keys.prefix)
        bounds = [key[cut:] for key in (after, last) if key is not None]
        if any("\x00" in one or any("\ud800" <= sign <= "\udfff" for sign in one) for one in bounds):
            return Span("", "")
        return Span("" if after is None else after[cut:], None if last is None else last[cut:])

    async def _folders(self, partition: int | None) -> Sequence[str]:
        """What keys of the partition begin with, in the order of keys."""
        if partition is None:
            return (self._keys.folder(()),)
        folders = await self._devices.folders()
        return [
            self._keys.folder((area, device))
            for area in AREAS
            for device in folders[area]
            if partition_of(device) == partition
        ]

    async def _some(self, folders: Sequence[str], after: str | None) -> tuple[list[Listed], str | None]:
        """The next objects, and the last key of them when there are more."""
        waiting = [one for one in folders if after is None or one > after or after.startswith(one)]
        objects: list[Listed] = []
        for at in range(0, len(waiting), _AT_ONCE):
            pages = await asyncio.gather(*(self._page(folder, after) for folder in waiting[at : at + _AT_ONCE]))
            for number, page in enumerate(pages, at + 1):
                objects += page.objects
                if page.next_token is not None or (len(objects) >= self._page_max and number < len(waiting)):
                    return objects, objects[-1].key
        return objects, None

    async def _page(self, folder: str, after: str | None) -> ListPage:
        """Of one folder; with more to come, not empty."""
        begin = after if after is not None and after.startswith(folder) else None
        page = await self._listing.page(folder, after=begin)
        while page.next_token is not None and not page.objects:
            page = await self._listing.page(folder, token=page.next_token)
        return page

    def _changed(self, one: Listed) -> Changed | None:
        path = self._keys.path(one.key)
        if path is None:
            return None
        return Changed(path, "file", path, size=one.size, version=version_of(one.etag), modified_at=one.modified_at)
