"""The local disk as a provider: what the store can do, and listing, moving, parts and changes by listing.

The version of an object is its inode, size and time of writing, as the watcher takes them; its sha256 is known where
the content was read anyway, and by `look`. A run over the changes walks the tree in order, so its cursor is the place
it has come to, and nothing is kept between pages. It gives no addresses out (the files gateway does) and calls nobody.
"""

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from shared import clock
from shared.cloud.errors import (
    BadPath,
    ContentMismatch,
    CursorExpired,
    Misconfigured,
    NameTaken,
    NotAFile,
    NotFound,
)
from shared.cloud.hashes import Digest, StreamHash
from shared.cloud.local import LocalStore
from shared.cloud.local_reader import LocalReader
from shared.cloud.local_uploads import Incomplete, PartFile, remove_stale
from shared.cloud.local_walk import Walk, is_path, version_of
from shared.cloud.paths import split_path
from shared.cloud.provider import (
    Capabilities,
    ChangePage,
    Object,
    Offer,
    Part,
    Probe,
    Subscription,
    Upload,
)
from shared.cloud.store import Stat

__all__ = ["LocalProvider"]

_CAPABILITIES: Final = Capabilities(
    changes="listing",
    push=False,
    names_unique=True,
    case_sensitive=True,
    moves=True,
    hashes=frozenset({"sha256"}),
    single_max=64 * 1024 * 1024,
    part_multiple=1,
    part_min=1,
    part_max=64 * 1024 * 1024,
    parts_at_once=3,
)
_WRITE: Final = 4 * 1024 * 1024
_UPLOAD_KEPT_S: Final = 7 * 86_400.0


class LocalProvider(LocalStore):
    """See provider.Provider. An `object_id` is the path, and nothing more is known by it."""

    @property
    def capabilities(self) -> Capabilities:
        """See provider.Provider."""
        return _CAPABILITIES

    async def probe(self) -> Probe:
        """Whether files can be made, and how full the disk is."""
        await self.check()
        disk = await self._threads.run("", os.fstatvfs, self._root.fd)
        total = disk.f_blocks * disk.f_frsize
        return Probe(f"user {os.geteuid()}", used=total - disk.f_bavail * disk.f_frsize, total=total)

    # Watching

    async def changes(self, cursor: str | None, *, partition: int | None = None) -> ChangePage:
        """A page of a run over everything; the last page's cursor begins the next run."""
        try:
            walk = Walk(self.entries, after=cursor or None, partition=partition)
        except BadPath:
            raise CursorExpired(f"{self.name}: the cursor is no place in the tree") from None
        found, reached = await walk.page()
        return ChangePage(found, reached or "", more=reached is not None, full=True)

    async def subscribe(self, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """It calls nobody."""
        raise Misconfigured(f"{self.name}: a local disk calls no address; watch it")

    async def renew(self, subscription: Subscription, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """It calls nobody."""
        raise Misconfigured(f"{self.name}: a local disk calls no address; watch it")

    async def unsubscribe(self, subscription: Subscription) -> None:
        """There is none."""

    # Objects

    def open(self, path: str, *, object_id: str | None = None) -> AbstractAsyncContextManager[LocalReader]:
        """See store.Store."""
        return super().open(path)

    async def stat(self, path: str, *, object_id: str | None = None) -> Stat | None:
        """See store.Store."""
        return await super().stat(path)

    async def content(self, path: str, *, object_id: str | None = None) -> tuple[Stat, Digest]:
        """See store.Store."""
        return await super().content(path)

    async def remove(self, path: str, *, object_id: str | None = None) -> bool:
        """See store.Store."""
        return await super().remove(path)

    async def remove_empty(self, folder: str) -> bool:
        """See provider.Provider."""
        try:
            return await self._threads.run(folder, self._root.remove_empty, split_path(folder))
        except NotFound:
            return True

    async def list(self, folder: str) -> AsyncIterator[Object]:
        """See provider.Provider; without hashes. Links, and names that are no paths of a store, are passed over."""
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            try:
                async for page in self.entries(current):
                    for entry in page:
                        path = f"{current}/{entry.name}" if current else entry.name
                        if entry.kind not in ("file", "folder") or not is_path(path):
                            continue
                        if entry.kind == "folder":
                            waiting.append(path)
                        else:
                            yield _object(path, entry.stat)
            except (NotFound, NotAFile):
                # Removed, or replaced by something else, since it was listed; or the folder asked for is not there.
                continue

    async def look(self, path: str, *, object_id: str | None = None) -> Object | None:
        """See provider.Provider; reads the file to know its sha256."""
        if await self.stat(path) is None:
            return None
        try:
            found, digest = await self.content(path)
        except NotFound:
            return None
        return _object(path, found, digest)

    async def move(self, path: str, to: str, *, object_id: str | None = None) -> Object:
        """See provider.Provider."""
        source, target = split_path(path), split_path(to)
        await self._threads.run(f"{path} to {to}", self._root.move, source, target)
        found = await self.stat(to)
        if found is None:
            raise NotFound(f"{to!r}: was taken away as soon as it was there")
        return _object(to, found)

    async def download_url(
        self, path: str, *, name: str, content_type: str, lifetime_s: float, object_id: str | None = None
    ) -> str | None:
        """None: the files gateway gives out what is on this disk."""
        return None

    # Uploads in parts

    async def begin(self, path: str, offer: Offer) -> Upload:
        """See provider.Provider."""
        await self._refuse_taken(path)
        file = await self._threads.run(path, PartFile.make, self._tmp, offer.size, release=PartFile.discard)
        state = {"file": file.name, "sha256": offer.hashes.get("sha256")}
        return Upload(path, offer.size, json.dumps(state), clock.wall() + _UPLOAD_KEPT_S)

    async def parts(self, upload: Upload) -> Sequence[Part]:
        """See provider.Provider."""
        ranges = await self._threads.run(upload.path, self._file(upload).ranges)
        return [Part(start, end) for start, end in ranges]

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        """See provider.Provider."""
        file = self._file(upload)
        view = memoryview(content)
        # Slices, so that no call keeps a thread for long; each is recorded, and repeating one is harmless.
        for offset in range(0, len(content), _WRITE):
            await self._threads.run(upload.path, file.write, start + offset, view[offset : offset + _WRITE])
        return Part(start, start + len(content))

    async def finish(self, upload: Upload, parts: Sequence[Part]) -> Object:
        """See provider.Provider; what is on disk is read again."""
        file = self._file(upload)
        try:
            await self._threads.run(upload.path, file.check_complete)
        except Incomplete as error:
            raise ContentMismatch(f"{upload.path!r}: {error}") from None
        content = StreamHash()
        while await self._threads.run(upload.path, file.hash_on, content):
            pass
        digest = content.digest()
        if digest.sha256 != (_state(upload)["sha256"] or digest.sha256):
            raise ContentMismatch(f"{upload.path!r}: what is on disk has sha256 {digest.sha256}")
        if not await self._threads.run(upload.path, file.link_new, self._root, split_path(upload.path)):
            raise NameTaken(f"{upload.path!r}: something is there already")
        found = await self.stat(upload.path)
        await self._threads.run_always(upload.path, file.discard)
        if found is None:
            raise NotFound(f"{upload.path!r}: was taken away as soon as it was there")
        return _object(upload.path, found, digest)

    async def abort(self, upload: Upload) -> None:
        """See provider.Provider."""
        try:
            file = self._file(upload)
        except NotFound:
            return
        await self._threads.run_always(upload.path, file.discard)

    async def remove_leftovers(self, *, older_than_s: float) -> int:
        """Also of uploads in parts that nobody went on with for a week."""

        def remove() -> int:
            return remove_stale(self._tmp, now=clock.wall(), older_than_s=max(older_than_s, _UPLOAD_KEPT_S))

        return await super().remove_leftovers(older_than_s=older_than_s) + await self._threads.run("", remove)

    async def _refuse_taken(self, path: str) -> None:
        try:
            taken = await self.stat(path) is not None
        except NotAFile:
            taken = True
        if taken:
            raise NameTaken(f"{path!r}: something is there already")

    def _file(self, upload: Upload) -> PartFile:
        try:
            return PartFile(self._tmp, _state(upload)["file"] or "", upload.size)
        except OSError:
            raise NotFound(f"{upload.path!r}: no upload of it was begun here") from None


def _state(upload: Upload) -> dict[str, str | None]:
    try:
        state = json.loads(upload.state)
        if not isinstance(state, dict) or not isinstance(state["file"], str):
            raise TypeError
        return {"file": state["file"], "sha256": state.get("sha256")}
    except (ValueError, KeyError, TypeError):
        raise NotFound(f"{upload.path!r}: no upload of it was begun here") from None


def _object(path: str, found: Stat, digest: Digest | None = None) -> Object:
    return Object(
        path,
        path,
        found.size,
        version_of(found),
        {"sha256": digest.sha256} if digest else {},
        found.mtime_ns / 1e9,
    )
