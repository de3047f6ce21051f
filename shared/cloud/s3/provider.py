"""S3 as a provider: a bucket, or what lies in it behind a prefix.

Nothing is ever replaced: every write and every copy goes with `If-None-Match: *`, so S3 itself refuses what exists.
There are no folders, and an object's id is its path: nothing outlives a rename. The version of an object is its ETag.
A move is a copy and then a removal, each only while its object is the one that was looked at.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final

from shared.cloud.crc64nvme import written
from shared.cloud.errors import ContentChanged, ContentMismatch, Misconfigured, NameTaken, NotFound, StoreUnavailable
from shared.cloud.hash_kinds import agree
from shared.cloud.hashes import Digest
from shared.cloud.paths import split_folder
from shared.cloud.provider import (
    Capabilities,
    ChangePage,
    HashKind,
    Object,
    Offer,
    Part,
    Probe,
    Subscription,
    Upload,
    stat_of_object,
)
from shared.cloud.remote_reader import RemoteReader, digest_of_reader
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.copying import Copies
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.listing import Listing
from shared.cloud.s3.multipart import Multipart
from shared.cloud.s3.putting import Putting
from shared.cloud.s3.session import checksum_of, receipts_of
from shared.cloud.s3.watch import Watch
from shared.cloud.s3.wire import BadXml, Head, head_of, version_of
from shared.cloud.store import Existed, Source, Stat, Stored
from shared.disposition import attachment

__all__ = ["CAPABILITIES", "S3Provider"]

_MIB: Final = 1024 * 1024
_LIFETIME_MAX_S: Final = 300.0

CAPABILITIES: Final = Capabilities(
    changes="listing",
    push=False,
    names_unique=True,
    case_sensitive=True,
    moves=True,
    hashes=frozenset({"sha256", "crc64nvme"}),
    single_max=10 * _MIB,
    part_multiple=10 * _MIB,
    part_min=10 * _MIB,
    part_max=5 * 1024 * _MIB,
    parts_at_once=3,
)


class S3Provider:
    """See provider.Provider. `prefix` is a path, or empty. Another `part_size` (for tests) is then the only one."""

    def __init__(
        self,
        client: S3Client,
        *,
        prefix: str = "",
        part_size: int = CAPABILITIES.part_min,
        watch: Watch | None = None,
        copies: Copies | None = None,
    ) -> None:
        self.capabilities = CAPABILITIES
        if part_size != CAPABILITIES.part_min:
            self.capabilities = replace(CAPABILITIES, part_min=part_size, part_multiple=part_size, part_max=part_size)
        self._client = client
        self._keys = Keys(prefix)
        self._listing = Listing(client)
        self._watch = watch or Watch(self._listing, self._keys)
        self._multipart = Multipart(client, self._keys, step=part_size)
        self._copies = copies or Copies(client, self._keys, self._multipart)
        self._putting = Putting(self, client, self._keys, self._multipart, piece=part_size)

    def __repr__(self) -> str:
        return f"S3Provider({self.name}, {self._client.bucket.url}{self._keys.prefix})"

    @property
    def name(self) -> str:
        """See provider.Provider."""
        return self._client.store

    async def probe(self) -> Probe:
        """One key is listed: that needs the bucket, the key and the right that most set-ups lack."""
        answer = await self._client.ask("probe", "GET", query={"list-type": "2", "max-keys": "1"})
        if answer.status != 200:
            raise self._client.error(answer, "probe")
        return Probe(
            who=f"key {self._client.key_id}, bucket {self._client.bucket.name}", server_time=answer.server_time
        )

    async def close(self) -> None:
        """See provider.Provider."""
        await self._watch.close()

    # Watching

    async def changes(self, cursor: str | None, *, partition: int | None = None) -> ChangePage:
        """See watch.Watch."""
        return await self._watch.changes(cursor, partition)

    async def subscribe(self, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """S3 calls no address by itself."""
        raise Misconfigured(f"{self.name} has no subscriptions: send its events to the hook (docs/cloud-stores.md)")

    async def renew(self, subscription: Subscription, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """As `subscribe`."""
        return await self.subscribe(address, secret, lifetime_s=lifetime_s)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """There is none."""

    # Objects

    def open(self, path: str, *, object_id: str | None = None) -> AbstractAsyncContextManager[RemoteReader]:
        """See provider.Provider."""
        return self._open(path)

    @asynccontextmanager
    async def _open(self, path: str) -> AsyncIterator[RemoteReader]:
        yield self._reader(await self._need(path))

    async def stat(self, path: str, *, object_id: str | None = None) -> Stat | None:
        """See provider.Provider."""
        found = await self.look(path)
        return None if found is None else stat_of_object(found)

    async def content(self, path: str, *, object_id: str | None = None) -> tuple[Stat, Digest]:
        """Read only where S3 does not know the sha256: of what came in parts, or was put by somebody without it."""
        found = await self._need(path)
        sha256 = found.hashes.get("sha256")
        if sha256 is not None:
            return stat_of_object(found), Digest(found.size, sha256)
        return stat_of_object(found), await digest_of_reader(self._reader(found))

    async def remove(self, path: str, *, object_id: str | None = None) -> bool:
        """S3 says of no object whether it was there: so it is looked at, and removed only as it was then."""
        for _ in range(3):
            found = await self.look(path)
            if found is None:
                return False
            if await self._remove(path, found.version):
                return True
        raise StoreUnavailable(f"{path!r}: is written to again and again while it is removed")

    async def remove_empty(self, folder: str) -> bool:
        """See provider.Provider. A folder is there as long as something is in it."""
        page = await self._listing.page(self._keys.folder(split_folder(folder)))
        return not page.objects

    async def list(self, folder: str) -> AsyncIterator[Object]:
        """See provider.Provider. Without hashes: a listing says none."""
        prefix = self._keys.folder(split_folder(folder))
        async for page in self._listing.pages(prefix):
            for one in page.objects:
                if (path := self._keys.path(one.key)) is not None:
                    yield Object(path, path, one.size, version_of(one.etag), modified_at=one.modified_at)

    async def look(self, path: str, *, object_id: str | None = None) -> Object | None:
        """See provider.Provider."""
        found = await self._head(path)
        return None if found is None else _object(path, found[0])

    async def move(self, path: str, to: str, *, object_id: str | None = None) -> Object:
        """See provider.Provider. ContentChanged when the source is written to meanwhile; then nothing is moved."""
        looked = await self._head(path)
        if looked is None:
            raise NotFound(f"{path!r}: nothing is there")
        head, began = looked
        if path == to or await self._head(to) is not None:
            raise NameTaken(f"{to!r}: something has the name already")
        try:
            await self._copies.copy(path, to, head)
        except NameTaken:
            # Perhaps by our own copy, the answer to which was lost.
            made = await self._head(to)
            if made is None or not made[0].is_same(head) or (made[0].modified_at or 0.0) < (began or 0.0):
                raise
        moved = await self._need(to)
        if moved.size != head.size or agree(_object(path, head).hashes, moved.hashes) is False:
            raise ContentMismatch(f"{to!r}: is not what was at {path!r}, which stays")
        if not await self._remove(path, version_of(head.etag)) and await self.look(path) is not None:
            await self._remove(to, moved.version)
            raise ContentChanged(f"{path!r}: was written to while it was moved")
        return moved

    async def download_url(
        self, path: str, *, name: str, content_type: str, lifetime_s: float, object_id: str | None = None
    ) -> str | None:
        """See provider.Provider. Good for five minutes at most."""
        query = {
            "response-content-disposition": attachment(name),
            "response-content-type": content_type,
            "response-cache-control": "private, no-store",
        }
        return self._client.signed_url(
            "GET", self._keys.of(path), lifetime_s=min(lifetime_s, _LIFETIME_MAX_S), query=query
        )

    async def put_new(self, path: str, source: Source, *, expect: Digest | None = None) -> Stored | Existed:
        """See store.Store."""
        return await self._putting.put_new(path, source, expect)

    # Uploads in parts

    async def begin(self, path: str, offer: Offer) -> Upload:
        """See provider.Provider."""
        if await self._head(path) is not None:
            raise NameTaken(f"{path!r}: something has the name already")
        return await self._multipart.begin(path, offer)

    async def parts(self, upload: Upload) -> Sequence[Part]:
        """See provider.Provider."""
        return await self._multipart.parts(upload)

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        """See provider.Provider. Every part but the last has `part_min`, or, of the largest, a multiple of it."""
        return await self._multipart.put_part(upload, start, content)

    async def finish(self, upload: Upload, parts: Sequence[Part]) -> Object:
        """See provider.Provider. Raises NotFound when the upload is to be begun anew."""
        try:
            await self._multipart.finish(upload, parts)
        except (NameTaken, NotFound):
            # Perhaps it is ours that has the name, and the answer to it was lost.
            if (found := await self._finished(upload, parts)) is None:
                raise
            return found
        return await self._need(upload.path)

    async def abort(self, upload: Upload) -> None:
        """See provider.Provider."""
        await self._multipart.abort(upload)

    async def _finished(self, upload: Upload, parts: Sequence[Part]) -> Object | None:
        """What stands there, when S3 has no such upload any more and its content is that of the parts."""
        try:
            await self._multipart.parts(upload)
            return None
        except NotFound:
            found = await self.look(upload.path)
        whole = checksum_of(receipts_of(upload, parts))
        is_ours = found is not None and whole is not None and found.hashes.get("crc64nvme") == written(whole)
        return found if is_ours and found is not None and found.size == upload.size else None

    async def _head(self, path: str) -> tuple[Head, float | None] | None:
        """What is there, and the moment by S3's clock."""
        headers = {"x-amz-checksum-mode": "ENABLED"}
        answer = await self._client.ask("look", "HEAD", self._keys.of(path), headers=headers)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._client.error(answer, "look", path)
        try:
            return head_of(answer.headers), answer.server_time
        except BadXml as error:
            raise self._client.strange("look", error) from None

    async def _need(self, path: str) -> Object:
        found = await self.look(path)
        if found is None:
            raise NotFound(f"{path!r}: nothing is there")
        return found

    async def _remove(self, path: str, version: str) -> bool:
        """Whether the object was removed, being of this version."""
        headers = {"If-Match": f'"{version.partition(":")[2]}"'}
        answer = await self._client.ask("remove", "DELETE", self._keys.of(path), headers=headers)
        if answer.status in (404, 412):
            return False
        if answer.status not in (200, 204):
            raise self._client.error(answer, "remove", path)
        return True

    def _reader(self, found: Object) -> RemoteReader:
        return RemoteReader(found, lambda start, end: self._fetch(found, start, end))

    @asynccontextmanager
    async def _fetch(self, found: Object, start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        headers = {"If-Match": f'"{found.version.partition(":")[2]}"', "Range": f"bytes={start}-{end - 1}"}
        async with self._client.stream("read", self._keys.of(found.path), headers=headers) as streamed:
            answer = streamed.answer
            if answer.status in (404, 412, 416):
                raise ContentChanged(f"{found.path!r}: was written to or removed while it was read")
            if answer.status != 206 and not (answer.status == 200 and (start, end) == (0, found.size)):
                raise self._client.error(answer, "read", found.path)
            yield streamed.chunks()


def _object(path: str, head: Head) -> Object:
    hashes: dict[HashKind, str] = {}
    if head.sha256 is not None:
        hashes["sha256"] = head.sha256
    if head.crc64nvme is not None:
        hashes["crc64nvme"] = head.crc64nvme
    return Object(path, path, head.size, version_of(head.etag), hashes, head.modified_at)
