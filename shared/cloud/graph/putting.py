"""Content that is put under a new name, whatever it comes as: in one request where it is small, else by a session.

A session wants to know the whole size beforehand, so a large stream is written aside first. What has the name already
is compared by quickXorHash and then, where that is the same, byte for byte: the hash keeps nobody from making another
file with it.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.cloud.errors import ContentMismatch, NameTaken, NotFound, StoreUnavailable
from shared.cloud.graph import wire
from shared.cloud.graph.client import GraphClient
from shared.cloud.graph.items import Items
from shared.cloud.graph.names import checked
from shared.cloud.hashes import Digest, digest_of
from shared.cloud.pieces import Pieces
from shared.cloud.quick_xor import quick_xor
from shared.cloud.store import Existed, Source, Stored
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_source import BytesContent, Content, FileContent, spooled

if TYPE_CHECKING:
    from shared.cloud.provider import Provider

__all__ = ["SINGLE_MAX", "Putting"]

SINGLE_MAX: Final = 4 * 1024 * 1024
_RIVALS_MAX: Final = 3


class Putting:
    """For one provider, which is asked for its sessions and to read what is there."""

    def __init__(self, provider: "Provider", client: GraphClient, items: Items) -> None:
        self._provider = provider
        self._client = client
        self._items = items
        self._transfer: Transfer | None = None

    async def close(self) -> None:
        """Give up the threads of large uploads, if there was one."""
        if self._transfer is not None:
            await self._transfer.close()

    async def put_new(self, path: str, source: Source, expect: Digest | None) -> Stored | Existed:
        """See store.Store."""
        parts = checked(path)
        async with Pieces(source, SINGLE_MAX) as pieces:
            first = await pieces.next()
            if pieces.ended:
                return await self._single(path, parts, first, expect)
            if self._transfer is None:
                self._transfer = Transfer()
            threads = self._transfer.threads
            if isinstance(source, bytes):
                return await self._in_parts(self._transfer, path, BytesContent(source), expect)
            if isinstance(source, Path):
                content = await FileContent.of(source, threads)
                return await self._in_parts(self._transfer, path, content, expect)
            most = expect.size if expect is not None else None
            async with spooled(_chained(first, pieces), threads, folder=None, most=most) as aside:
                return await self._in_parts(self._transfer, path, aside, expect)

    async def _in_parts(
        self, transfer: Transfer, path: str, content: Content, expect: Digest | None
    ) -> Stored | Existed:
        try:
            landed = await transfer.put(self._provider, path, content, expect=expect)
        except NameTaken:
            hashes = await transfer.measure(content, self._provider.capabilities.hashes)
            try:
                same = await self._same(path, hashes.digest(), hashes.values()["quick_xor"])
            except NotFound as error:
                raise StoreUnavailable(str(error)) from error
            return Existed(same, hashes.digest())
        return Existed(landed.content, landed.content) if landed.existed else Stored(landed.content)

    async def _single(
        self, path: str, parts: tuple[str, ...], content: bytes, expect: Digest | None
    ) -> Stored | Existed:
        offered = digest_of(content)
        if expect is not None and offered != expect:
            raise ContentMismatch(
                f"{path!r}: came with {offered.size} bytes, sha256 {offered.sha256}; "
                f"announced was {expect.size} bytes, sha256 {expect.sha256}"
            )
        said = quick_xor(content)
        wrong = 0
        for _ in range(_RIVALS_MAX):
            try:
                made = await self._items.with_hash(await self._put(path, parts, content))
            except NameTaken:
                # Somebody else's, or ours by a try whose answer was lost: with the same bytes it serves either way.
                try:
                    return Existed(await self._same(path, offered, said), offered)
                except NotFound:
                    # Gone by now, or it is a folder on the way that is no folder; that is said.
                    await self._items.make_folder("/".join(parts[:-1]))
                    continue
            if made.size == offered.size and made.hashes.get("quick_xor", said) == said:
                return Stored(offered)
            await self._items.remove(made)
            wrong += 1
            if wrong > 1:
                raise ContentMismatch(f"{path!r}: other bytes came to lie there than were sent, twice")
        raise StoreUnavailable(f"{path!r}: its name or folder is removed again and again by somebody else")

    async def _put(self, path: str, parts: tuple[str, ...], content: bytes) -> wire.DriveItem:
        for last in (False, True):
            where = await self._items.at(path, "content") + "?@microsoft.graph.conflictBehavior=fail"
            try:
                answer = await self._client.call(
                    "content.put",
                    "PUT",
                    where,
                    what=path,
                    body=content,
                    headers={"Content-Type": "application/octet-stream"},
                    cost=2,
                    ok=(200, 201),
                )
                return answer.decoded(wire.DriveItem, store=self._client.store)
            except NotFound:
                if last:
                    raise
                await self._items.make_folder("/".join(parts[:-1]))
        raise AssertionError("the second try ends in one way or the other")

    async def _same(self, path: str, offered: Digest, said: str) -> Digest | None:
        """What has the name, when it has these bytes. Raises NotFound when it is gone by now."""
        there = await self._items.file(path)
        if there is None:
            raise NotFound(f"{path!r}: what had the name is gone")
        there = await self._items.with_hash(there)
        if there.size != offered.size or there.hashes.get("quick_xor", said) != said:
            return None
        found = (await self._provider.content(path, object_id=there.id))[1]
        return found if found == offered else None


async def _chained(first: bytes, pieces: Pieces) -> AsyncIterator[bytes]:
    yield first
    while not pieces.ended:
        yield await pieces.next()
