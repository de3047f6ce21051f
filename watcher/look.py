"""Looking at files: is it there, is it whole, what is its hash.

A look counts only when the file was the same before and after it was read; otherwise somebody writes, and it is
looked at again. Small files are read in the thread that looked, since handing over costs more than reading; large
ones piece by piece, so that they hold no thread for long. Everything is opened beneath the root and without following
links.
"""

import asyncio
import errno
import os
import stat
from dataclasses import dataclass
from typing import Final

from shared import clock
from shared.cloud.beneath import Root
from shared.cloud.errors import CloudError
from shared.cloud.hashes import StreamHash
from shared.cloud.threads import FileThreads
from shared.store import items
from shared.store.errors import StoreError
from shared.store.pool import Pool
from watcher.disk import Disk
from watcher.pacing import FileStat, Look
from watcher.places import Refused, locate
from watcher.translate import Seen
from watcher.walk import file_stat, refused_kind

SMALL_BYTES: Final = 4 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_CHUNKS_A_CALL: Final = 16
# A kernel tick and then some: a write this soon after another may leave the same time on the file.
_TICK_NS: Final = 20_000_000
_GONE: Final = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Gone:
    """No file is there."""

    path: str


@dataclass(frozen=True, slots=True)
class Unsettled:
    """It changed while it was looked at, or since a scan saw it."""

    path: str
    stat: FileStat | None


@dataclass(frozen=True, slots=True)
class Large:
    """It is there; hashing it takes a while."""

    path: str
    stat: FileStat


@dataclass(frozen=True, slots=True)
class Failed:
    """It could not be looked at; perhaps later."""

    path: str
    detail: str


Outcome = Seen | Gone | Unsettled | Large | Refused | Failed


def look_at(root: Root, looks: list[Look]) -> list[Outcome]:
    """Blocking. One outcome for each."""
    return [_look_at(root, look) for look in looks]


def _look_at(root: Root, look: Look) -> Outcome:
    parts = tuple(look.path.split("/"))
    try:
        found = root.stat(parts)
        if stat.S_ISDIR(found.st_mode):
            return Gone(look.path)
        if refusal := refused_kind(look.path, found.st_mode):
            return refusal
        seen = file_stat(found)
        if look.expect is not None and seen != look.expect:
            return Unsettled(look.path, seen)
        if seen.size > SMALL_BYTES:
            return Large(look.path, seen)
        fd = root.open_file(parts)
        try:
            return _read_small(fd, look, seen)
        finally:
            os.close(fd)
    except OSError as error:
        return _failed(root, look.path, error)


def _read_small(fd: int, look: Look, seen: FileStat) -> Outcome:
    began_ns = int(clock.wall() * 1e9)
    if file_stat(os.fstat(fd)) != seen:
        return Unsettled(look.path, file_stat(os.fstat(fd)))
    content = StreamHash()
    while content.size <= seen.size and (piece := os.read(fd, _CHUNK)):
        content.update(piece)
    return _judged(fd, look, seen, content, began_ns)


def _judged(fd: int, look: Look, seen: FileStat, content: StreamHash, began_ns: int) -> Outcome:
    now = file_stat(os.fstat(fd))
    if now != seen or content.size != seen.size:
        return Unsettled(look.path, now)
    racy = abs(began_ns - seen.mtime_ns) < _TICK_NS
    return seen_as(look, seen, content.digest().sha256, racy=racy)


def seen_as(look: Look, seen: FileStat, sha256: str, *, racy: bool = False) -> Seen:
    """What a look found."""
    place = locate(look.path)
    if place is None or isinstance(place, Refused):
        raise AssertionError("only paths that have a place are looked at")
    return Seen(
        place,
        seen,
        sha256,
        racy=racy,
        live=look.live,
        fresh=look.fresh,
        baseline=look.baseline,
        noticed_at=look.noticed_at,
    )


def _failed(root: Root, path: str, error: OSError) -> Outcome:
    if error.errno in _GONE:
        try:
            # Where a whole area is missing, a disk is not mounted: nothing was removed.
            os.close(root.open_folder((path.split("/", 1)[0],)))
        except OSError as missing:
            return Failed(path, missing.strerror or str(missing))
        return Gone(path)
    if error.errno == errno.ELOOP:
        return Refused(path, "link", "links are not followed")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return Refused(path, "special", "not a regular file")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(path, "unreadable", error.strerror or str(error))
    return Failed(path, error.strerror or str(error))


async def read_large(root: Root, threads: FileThreads, look: Look, seen: FileStat) -> Outcome:
    """Hash a large file, giving the thread back between pieces. Raises CloudError when the disk does not answer."""
    parts = tuple(look.path.split("/"))
    opened = await threads.run(look.path, _open, root, look.path, parts, release=_close)
    if not isinstance(opened, int):
        return opened
    try:
        began_ns = int(clock.wall() * 1e9)
        content = StreamHash()
        while content.size <= seen.size and await threads.run(look.path, _hash_on, opened, content):
            pass
        return await threads.run(look.path, _judged, opened, look, seen, content, began_ns)
    finally:
        # Not before a read that nobody waits for any more has ended, or it would read whatever gets the number next.
        await threads.run(look.path, os.close, opened)


def _open(root: Root, path: str, parts: tuple[str, ...]) -> int | Outcome:
    try:
        return root.open_file(parts)
    except OSError as error:
        return _failed(root, path, error)


def _close(opened: int | Outcome) -> None:
    if isinstance(opened, int):
        os.close(opened)


def _hash_on(fd: int, content: StreamHash) -> bool:
    before = content.size
    for _ in range(_CHUNKS_A_CALL):
        piece = os.read(fd, _CHUNK)
        if not piece:
            break
        content.update(piece)
    return content.size > before


class Looker:
    """Looks for all feeds of the process: small files at once, at most `large_at_once` large ones."""

    def __init__(self, disk: Disk, pool: Pool, threads: FileThreads, large: FileThreads, *, large_at_once: int) -> None:
        self._disk = disk
        self._pool = pool
        self._threads = threads
        self._large = large
        self._large_at_once = asyncio.Semaphore(large_at_once)

    async def look(self, looks: list[Look]) -> list[Outcome]:
        """One outcome for each, in order; `Large` for what `read` should have."""
        try:
            return await self._threads.run(looks[0].path, look_at, self._disk.root, looks)
        except (CloudError, OSError) as error:
            return [Failed(look.path, str(error)) for look in looks]

    async def read(self, feed_id: str, look: Look, stat: FileStat) -> Outcome:
        """Hash a large file, unless the ledger says that it stands as it was."""
        try:
            async with self._large_at_once:
                if not look.fresh:
                    row = await items.one(self._pool, feed_id, look.path)
                    if row is not None and (row.inode, row.size, row.mtime_ns) == stat:
                        return seen_as(look, stat, row.content_version)
                return await read_large(self._disk.root, self._large, look, stat)
        except (CloudError, StoreError, OSError) as error:
            return Failed(look.path, str(error))
