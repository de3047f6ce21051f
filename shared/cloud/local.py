"""The store on a local disk: a folder, beneath which nothing is reached through a link and nothing is ever replaced.

`put_new` writes aside (drafts.py), links without overwriting and syncs file and folder, so what it reports survives a
power cut. Everything blocking runs in a few threads of the store's own, a piece of bounded size at a time: memory
stays constant for files of any size, and a call that nobody waits for any more ends soon.
"""

import contextlib
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from shared import clock
from shared.cloud.beneath import FILE, Root
from shared.cloud.drafts import Draft, remove_leftovers
from shared.cloud.errors import (
    ContentChanged,
    ContentMismatch,
    Misconfigured,
    NotAFile,
    NotFound,
    StoreUnavailable,
)
from shared.cloud.hashes import Digest, StreamHash
from shared.cloud.local_reader import LocalReader, Pages, stat_of
from shared.cloud.paths import Parts, split_folder, split_path
from shared.cloud.store import Entry, Existed, Source, Stat, Stored
from shared.cloud.threads import DEADLINE_S, FileThreads

_GATHER: Final = 256 * 1024
# Written, synced and named in one call of a thread.
_SMALL: Final = 1024 * 1024


class LocalStore:
    """A store beneath the folder `root`; `tmp` is for drafts, on the same file system and not inside `root`.

    Opens both at once; raises Misconfigured when they cannot serve. `tmp` is made when missing, `root` never is: an
    empty folder where a disk is not mounted would look as if every file had been deleted.
    """

    def __init__(
        self,
        root: Path,
        tmp: Path,
        *,
        name: str = "local",
        threads: int = 4,
        deadline_s: float = DEADLINE_S,
        allow_openat2: bool = True,
    ) -> None:
        self.name = name
        self._root = _open_root(root, allow_openat2=allow_openat2)
        try:
            self._tmp = _open_tmp(tmp, root, self._root)
        except BaseException:
            self._root.close()
            raise
        self._threads = FileThreads(threads, deadline_s=deadline_s)

    def __repr__(self) -> str:
        return f"LocalStore({self.name}, {self._root!r}, {self._threads!r})"

    def open(self, path: str) -> AbstractAsyncContextManager[LocalReader]:
        """Open a regular file for reading. Raises BadPath, NotFound, NotAFile."""
        return self._open(path)

    @asynccontextmanager
    async def _open(self, path: str) -> AsyncIterator[LocalReader]:
        parts = split_path(path)

        def opened() -> LocalReader:
            return LocalReader(self._root.open_file(parts), path, self._threads)

        reader = await self._threads.run(path, opened, release=LocalReader.close)
        try:
            yield reader
        finally:
            await self._threads.run_always(path, reader.close)

    async def put_new(self, path: str, source: Source, *, expect: Digest | None = None) -> Stored | Existed:
        """See store.Store."""
        parts = split_path(path)
        if isinstance(source, bytes) and len(source) <= _SMALL:
            with contextlib.suppress(NotFound):  # taken away in this very moment: the long way looks again
                offered, made = await self._threads.run(path, self._put_small, path, parts, source, expect)
                return Stored(offered) if made else Existed(await self.digest(path), offered)
        draft = await self._threads.run(path, self._draft, release=Draft.discard)
        try:
            await self._fill(draft, path, source, expect)
            offered = await self._threads.run(path, draft.seal)
            if expect is not None and offered != expect:
                raise ContentMismatch(f"{path!r}: came with {_shown(offered)}; announced was {_shown(expect)}")
            # Again when the rival's file, or the folder, is gone before it is looked at.
            for _ in range(3):
                try:
                    if await self._threads.run(path, draft.link_new, self._root, parts):
                        return Stored(offered)
                    return Existed(await self.digest(path), offered)
                except NotFound:
                    continue
            raise StoreUnavailable(f"{path!r}: its name or folder is removed again and again by somebody else")
        finally:
            await self._threads.run_always(path, draft.discard)

    async def stat(self, path: str) -> Stat | None:
        """The regular file there, or None. Raises BadPath, NotAFile."""
        try:
            found = await self._threads.run(path, self._root.stat, split_path(path))
        except NotFound:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise NotAFile(f"{path!r}: not a regular file")
        return stat_of(found)

    async def digest(self, path: str) -> Digest:
        """Size and sha256 of what is there, read in a stream. Raises ContentChanged when somebody wrote meanwhile."""
        return (await self.content(path))[1]

    async def content(self, path: str) -> tuple[Stat, Digest]:
        """As `digest`, with the stat of the very file that was read."""
        async with self.open(path) as reader:
            content = StreamHash()
            while await self._threads.run(path, reader.hash_on, content) and content.size <= reader.stat.size:
                pass
            if content.size != reader.stat.size or await self._threads.run(path, reader.stat_now) != reader.stat:
                raise ContentChanged(f"{path!r}: was written to while it was read")
            return reader.stat, content.digest()

    async def entries(self, folder: str = "") -> AsyncIterator[list[Entry]]:
        """What the folder holds (not below), in pages and no particular order. Raises BadPath, NotFound."""
        parts = split_folder(folder)

        def opened() -> Pages:
            return Pages(self._root.open_folder(parts))

        pages = await self._threads.run(folder, opened, release=Pages.close)
        try:
            while page := await self._threads.run(folder, pages.next):
                yield page
        finally:
            await self._threads.run_always(folder, pages.close)

    async def remove(self, path: str) -> bool:
        """Remove the regular file there, durably; False when nothing was there. Raises BadPath, NotAFile."""
        if await self.stat(path) is None:
            return False
        try:
            await self._threads.run(path, self._root.remove, split_path(path))
        except NotFound:
            return False
        return True

    async def remove_leftovers(self, *, older_than_s: float) -> int:
        """Remove drafts that a process left behind when it died; returns how many. To be called at start."""

        def remove() -> int:
            return remove_leftovers(self._tmp, now=clock.wall(), older_than_s=older_than_s)

        return await self._threads.run("", remove)

    async def check(self) -> None:
        """Whether files can be made: raises StoreUnavailable when a folder was removed or is read-only."""
        await self._threads.run("", _check, self._root.fd, "FLEETWIRE_CLOUD_ROOT")
        await self._threads.run("", _check, self._tmp, "FLEETWIRE_CLOUD_TMP")

    async def close(self) -> None:
        """Take no more calls; wait a while for those that run."""
        await self._threads.close()
        self._root.close()
        if self._tmp >= 0:
            os.close(self._tmp)
            self._tmp = -1

    def _draft(self) -> Draft:
        try:
            return Draft(self._tmp)
        except FileNotFoundError:
            raise StoreUnavailable("the folder for drafts (FLEETWIRE_CLOUD_TMP) is gone; make it again") from None

    def _put_small(self, path: str, parts: Parts, content: bytes, expect: Digest | None) -> tuple[Digest, bool]:
        """All of it in one go: what it is, and whether it has the name now."""
        draft = self._draft()
        try:
            draft.write(content)
            offered = draft.seal()
            if expect is not None and offered != expect:
                raise ContentMismatch(f"{path!r}: came with {_shown(offered)}; announced was {_shown(expect)}")
            return offered, draft.link_new(self._root, parts)
        finally:
            draft.discard()

    async def _fill(self, draft: Draft, path: str, source: Source, expect: Digest | None) -> None:
        if isinstance(source, bytes):
            await self._threads.run(path, draft.write, source)
        elif isinstance(source, Path):
            outside = await self._threads.run(str(source), self._open_outside, source, release=LocalReader.close)
            try:
                while await self._threads.run(path, draft.copy_some, outside.read_at):
                    pass
            finally:
                await self._threads.run_always(path, outside.close)
        else:
            size = 0
            async for piece in _gathered(source):
                size += len(piece)
                if expect is not None and size > expect.size:
                    raise ContentMismatch(f"{path!r}: more bytes came than the {expect.size} announced")
                await self._threads.run(path, draft.write, piece)

    def _open_outside(self, path: Path) -> LocalReader:
        fd = os.open(path, FILE)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotAFile(f"{path}: not a regular file")
        return LocalReader(fd, str(path), self._threads)


async def _gathered(source: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Small pieces made into larger ones, so that a thread is asked once per quarter megabyte and not per packet."""
    waiting = bytearray()
    async for piece in source:
        waiting += piece
        if len(waiting) >= _GATHER:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def _open_root(root: Path, *, allow_openat2: bool) -> Root:
    try:
        return Root(root, allow_openat2=allow_openat2)
    except OSError as error:
        raise Misconfigured(f"FLEETWIRE_CLOUD_ROOT={root}: {error.strerror}; make it or mount its disk") from error


def _open_tmp(tmp: Path, root_path: Path, root: Root) -> int:
    try:
        tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Misconfigured(f"FLEETWIRE_CLOUD_TMP={tmp}: {error.strerror}; name a folder to write in") from error
    problem = None
    if tmp.resolve().is_relative_to(root_path.resolve()):
        problem = "lies inside the cloud folder, where it would be watched; name a folder beside it"
    elif _mount_of(fd) != _mount_of(root.fd):
        problem = "is on another file system or mount than the cloud folder; name a folder beside it"
    if problem:
        os.close(fd)
        raise Misconfigured(f"FLEETWIRE_CLOUD_TMP={tmp} {problem}")
    return fd


def _check(folder: int, setting: str) -> None:
    if os.fstat(folder).st_nlink == 0:
        raise StoreUnavailable(f"the folder that was {setting} is removed; make it again and restart")
    if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
        raise StoreUnavailable(f"the folder of {setting} is on a read-only file system")


def _mount_of(fd: int) -> tuple[int, str]:
    """Two folders with the same answer can be linked between. One disk mounted twice (as volumes are) cannot."""
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    return os.fstat(fd).st_dev, next((line for line in lines if line.startswith("mnt_id:")), "")


def _shown(content: Digest) -> str:
    return f"{content.size} bytes, sha256 {content.sha256}"
