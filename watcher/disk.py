"""The root folder on disk: opened once, opened again when its path leads elsewhere, its device folders listed for all
feeds at once.

The root is never made and, once it was scanned, neither are the folders in it: an empty folder where a disk is not
mounted would look as if every file had been removed.
"""

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from shared import clock
from shared.cloud.beneath import Root
from shared.cloud.threads import FileThreads
from watcher.places import AREAS, Refused
from watcher.tree import WatchedTree
from watcher.walk import DeviceFolders, device_folders

_log = structlog.get_logger(__name__)

_LISTING_STANDS_S: Final = 1.0
_FORMER_ROOTS: Final = 4


class Disk:
    """The root at `path`. `tree` gets every folder that is listed."""

    def __init__(
        self, path: Path, tree: WatchedTree, threads: FileThreads, *, on_refused: Callable[[Refused], None]
    ) -> None:
        self._path = path
        self._on_refused = on_refused
        self._tree = tree
        self._threads = threads
        self._root: Root | None = None
        self._former: deque[Root] = deque()
        self._listing: tuple[float, DeviceFolders] | None = None
        self._forgotten = 0
        self._lock = asyncio.Lock()
        self.problem: str | None = "not opened yet"
        """Why the root cannot be used now, for people; None when it can."""

    def __repr__(self) -> str:
        return f"Disk({self._path}, {self.problem or 'usable'})"

    @property
    def root(self) -> Root:
        """The open root. Raises OSError when there is none."""
        if self._root is None:
            raise OSError(errno.ENOENT, self.problem or "the cloud folder is not open")
        return self._root

    def watch(self, folder_fd: int, path: str) -> None:
        """Watch a folder that is about to be listed. From any thread."""
        self._tree.watch(folder_fd, path)

    @property
    def watched(self) -> bool:
        """Whether changes are told, so that scans need not come often."""
        return self._tree.complete

    async def make_areas(self) -> None:
        """Make what is missing of Requests/ and Responses/, in a root that nothing is known of yet."""
        await self._threads.run(str(self._path), self._make_areas)

    async def device_folders(self) -> DeviceFolders:
        """The folders of all devices, at most a second old. Raises OSError, CloudError."""
        async with self._lock:
            now = clock.monotonic()
            if self._listing is None or now - self._listing[0] > _LISTING_STANDS_S:
                forgotten = self._forgotten
                try:
                    listing = await self._threads.run(str(self._path), self._list)
                except Exception as error:
                    self._listing, self.problem = None, str(error)
                    raise
                if self.problem is not None:
                    _log.info("cloud folder is usable", root=str(self._path))
                # A folder that came while the list was made may not be in it: it serves whoever waited for it, who is
                # told of that folder, but not a feed that is claimed a moment later.
                self._listing = (now, listing) if forgotten == self._forgotten else None
                self.problem = None
                for refused in listing.refused:
                    self._on_refused(refused)
                return listing
            return self._listing[1]

    def forget_listing(self) -> None:
        """A device's folder came or went."""
        self._listing = None
        self._forgotten += 1

    def close(self) -> None:
        """Give the root up."""
        for root in (*self._former, *([self._root] if self._root is not None else [])):
            root.close()
        self._former.clear()
        self._root = None

    def _leave_root(self, root: Root) -> None:
        # Not closed at once: a thread may be in it, and its number must not lead elsewhere meanwhile.
        self._former.append(root)
        if len(self._former) > _FORMER_ROOTS:
            self._former.popleft().close()

    def _make_areas(self) -> None:
        for area in AREAS:
            (self._path / area).mkdir(exist_ok=True)

    def _list(self) -> DeviceFolders:
        there = self._path.stat()
        if self._root is not None:
            ours = os.fstat(self._root.fd)
            if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
                _log.warning("the cloud folder is another folder now", root=str(self._path))
                self._tree.forget(*AREAS)
                self._leave_root(self._root)
                self._root = None
        if self._root is None:
            self._root = Root(self._path)
        return device_folders(self._root, self.watch)
