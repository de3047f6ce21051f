"""Changes of a partition, found by listing its devices' folders and comparing with what was told before.

The first run tells everything (`full`), in pages of about a thousand; later ones of the same process tell only what
differs, and now and then everything again. The cursor is either where a run stands, which is the last key told, so a
run goes on in any process; or the name of what was told (known.py), which only this process can compare with. Devices'
folders are listed several at a time, each by itself: a partition has one device in 64.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared import clock
from shared.cloud.errors import CursorExpired
from shared.cloud.provider import Change, Changed, ChangePage, Removed
from shared.cloud.s3.cursor import Cursor
from shared.cloud.s3.devices import AREAS, Devices
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.known import Known
from shared.cloud.s3.listing import Listing
from shared.cloud.s3.wire import Listed, ListPage, version_of
from shared.hash_slots import partition_of

__all__ = ["Watch"]

_AT_ONCE: Final = 8
_CHANGES_MAX: Final = 1000
_KEYS_MAX: Final = 200_000


@dataclass(slots=True)
class _Run:
    """A run over everything, under way in this process."""

    run_id: str
    born: float
    folders: Sequence[str]
    marks: dict[str, int] | None
    """What it told; None when its beginning was told by another process."""
    at: str | None = None


class Watch:
    """Of one root. `full_s`: after so long everything is told again, whatever is known."""

    def __init__(
        self,
        listing: Listing,
        keys: Keys,
        *,
        round_s: float = 0.5,
        full_s: float = 3600.0,
        keys_max: int = _KEYS_MAX,
        changes_max: int = _CHANGES_MAX,
        time: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._listing = listing
        self._keys = keys
        self._full_s = full_s
        self._keys_max = keys_max
        self._changes_max = changes_max
        self._time = time
        self._devices = Devices(listing, keys, round_s=round_s, time=time)
        self._known = Known(keys_max=keys_max)
        self._runs: dict[int | None, _Run] = {}

    async def close(self) -> None:
        """Ask no more."""
        await self._devices.close()

    async def changes(self, cursor: str | None, partition: int | None) -> ChangePage:
        """See provider.Provider."""
        at = Cursor.read(cursor) if cursor is not None else None
        if cursor is not None and at is None:
            raise CursorExpired("the cursor is none of S3's")
        if at is not None and at.name is not None:
            born_after = self._time() - self._full_s
            marks = self._known.at(partition, at.name, born_after=born_after)
            if marks is not None:
                return await self._differences(partition, at.name, marks)
            at = None
        return await self._everything(partition, at)

    # A run over everything

    async def _everything(self, partition: int | None, at: Cursor | None) -> ChangePage:
        run = self._runs.get(partition) if at is not None else None
        if run is None or at is None or run.run_id != at.run_id or run.at != at.key:
            self._known.forget(partition)
            born, folders = self._time(), await self._folders(partition)
            if at is None:
                run = _Run(secrets.token_hex(6), born, folders, {})
            else:
                run = _Run(at.run_id, born, folders, None, at.key)
            self._runs[partition] = run
        objects, last = await self._some(run.folders, run.at)
        if run.marks is not None:
            run.marks.update((one.key, _mark(one)) for one in objects)
            if self._known.keys + sum(len(one.marks or ()) for one in self._runs.values()) > self._keys_max:
                run.marks = None
        changes = [change for one in objects if (change := self._changed(one)) is not None]
        if last is not None:
            run.at = last
            return ChangePage(changes, Cursor(run_id=run.run_id, key=last).written(), more=True, full=True)
        del self._runs[partition]
        name = secrets.token_hex(6)
        if run.marks is not None:
            self._known.begin(partition, name, run.born, run.marks)
        return ChangePage(changes, Cursor(name=name).written(), more=False, full=True)

    # What differs

    async def _differences(self, partition: int | None, name: str, marks: Mapping[str, int]) -> ChangePage:
        folders = await self._folders(partition)
        changes: list[Change] = []
        changed: dict[str, int] = {}
        seen: set[str] = set()
        after: str | None = None
        while True:
            objects, after = await self._some(folders, after)
            for one in objects:
                seen.add(one.key)
                mark = _mark(one)
                if marks.get(one.key) == mark:
                    continue
                changed[one.key] = mark
                if (change := self._changed(one)) is not None:
                    changes.append(change)
            if after is None or len(changes) >= self._changes_max:
                break
            if len(seen) > self._keys_max:
                # More than is compared: told as a whole from now on.
                return await self._everything(partition, None)
        # What was not reached is not gone: only up to where this page ends.
        gone = [key for key in marks if key not in seen and (after is None or key <= after)]
        changes += [Removed(path) for key in gone if (path := self._keys.path(key)) is not None]
        if not changes and not changed and not gone:
            return ChangePage((), Cursor(name=name).written(), more=False, full=False)
        newer = secrets.token_hex(6)
        self._known.tell(partition, newer, changed, gone)
        return ChangePage(changes, Cursor(name=newer).written(), more=after is not None, full=False)

    # Listing

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
        """The next objects, about a thousand, and the last key of them when there are more."""
        waiting = [one for one in folders if after is None or one > after or after.startswith(one)]
        objects: list[Listed] = []
        for at in range(0, len(waiting), _AT_ONCE):
            batch = waiting[at : at + _AT_ONCE]
            pages = await asyncio.gather(*(self._page(folder, after) for folder in batch))
            for number, page in enumerate(pages, at + 1):
                objects += page.objects
                if page.next_token is not None or (len(objects) >= self._changes_max and number < len(waiting)):
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


def _mark(one: Listed) -> int:
    return hash((one.etag, one.size))
