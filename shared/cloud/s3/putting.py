"""Putting what is new, from any source: one request up to 10 MiB, else parts as they come, three on their way."""

import asyncio
import base64
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from shared.cloud.errors import CloudError, ContentMismatch, NameTaken, NotFound, StoreUnavailable
from shared.cloud.hashes import Digest, StreamHash, digest_of
from shared.cloud.pieces import Pieces
from shared.cloud.provider import Offer, Part, Upload
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.multipart import Multipart
from shared.cloud.store import Existed, Source, Stored

if TYPE_CHECKING:
    from shared.cloud.provider import Provider

__all__ = ["Putting"]

_AT_ONCE: Final = 3
_ROUNDS: Final = 3


class Putting:
    """Into one bucket. Memory: the pieces on their way, and twice the one that is gathered."""

    def __init__(self, provider: "Provider", client: S3Client, keys: Keys, multipart: Multipart, *, piece: int) -> None:
        self._piece = piece
        self._provider = provider
        self._client = client
        self._keys = keys
        self._multipart = multipart

    async def put_new(self, path: str, source: Source, expect: Digest | None) -> Stored | Existed:
        """See store.Store."""
        self._keys.of(path)
        async with Pieces(source, self._piece) as pieces:
            first = [await pieces.next()]
            if pieces.ended:
                offered = digest_of(first[0])
                _check(path, offered, expect)
                return await self._single(path, first[0], offered)
            return await self._in_parts(path, first, pieces, expect)

    async def _single(self, path: str, content: bytes, offered: Digest) -> Stored | Existed:
        headers = {
            "Content-Type": "application/octet-stream",
            "If-None-Match": "*",
            "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(offered.sha256)).decode("ascii"),
            "x-amz-sdk-checksum-algorithm": "SHA256",
        }
        # Again when the rival's object is gone before it is looked at.
        for _ in range(_ROUNDS):
            answer = await self._client.ask("put", "PUT", self._keys.of(path), headers=headers, body=content)
            if answer.status == 200:
                return Stored(offered)
            if answer.status != 412:
                raise self._client.error(answer, "put", path)
            if (existed := await self._existed(path, offered)) is not None:
                return existed
        raise StoreUnavailable(f"{path!r}: its name is removed again and again by somebody else")

    async def _in_parts(self, path: str, first: list[bytes], pieces: Pieces, expect: Digest | None) -> Stored | Existed:
        """`first` is taken out of its list, so that nobody goes on holding it."""
        # How much comes is known only at the end; parts of this size do for all but the very largest.
        upload = await self._multipart.begin(path, Offer(0))
        try:
            parts, offered = await self._bring(path, upload, first, pieces, expect)
            _check(path, offered, expect)
            try:
                await self._provider.finish(replace(upload, size=offered.size), parts)
                return Stored(offered)
            except NameTaken:
                await self._multipart.abort(upload)
                if (existed := await self._existed(path, offered)) is not None:
                    return existed
                raise StoreUnavailable(f"{path!r}: somebody had its name and is gone; put it again") from None
        except NotFound as error:
            raise StoreUnavailable(f"{error}; put it again") from None
        except BaseException:
            with contextlib.suppress(CloudError):
                await self._multipart.abort(upload)
            raise

    async def _bring(
        self, path: str, upload: Upload, first: list[bytes], pieces: Pieces, expect: Digest | None
    ) -> tuple[list[Part], Digest]:
        hashed = StreamHash()
        free = asyncio.Semaphore(_AT_ONCE)
        tasks: list[asyncio.Task[Part]] = []

        async def bring(start: int, content: bytes) -> Part:
            try:
                return await self._multipart.put_part(upload, start, content)
            finally:
                free.release()

        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    # Before the next is gathered, so that no more are held than may be on their way.
                    await free.acquire()
                    piece = first.pop() if first else await pieces.next()
                    start = hashed.size
                    await asyncio.to_thread(hashed.update, piece)
                    if expect is not None and hashed.size > expect.size:
                        raise ContentMismatch(f"{path!r}: more bytes came than the {expect.size} announced")
                    tasks.append(group.create_task(bring(start, piece)))
                    piece = b""
                    if pieces.ended:
                        break
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks], hashed.digest()

    async def _existed(self, path: str, offered: Digest) -> Existed | None:
        """What has the name; None when it is gone. Read only when it might be the same and S3 does not know."""
        found = await self._provider.look(path)
        if found is None:
            return None
        if found.size != offered.size:
            return Existed(None, offered)
        try:
            return Existed((await self._provider.content(path))[1], offered)
        except NotFound:
            return None


def _check(path: str, offered: Digest, expect: Digest | None) -> None:
    if expect is not None and offered != expect:
        raise ContentMismatch(
            f"{path!r}: came with {offered.size} bytes, sha256 {offered.sha256}; "
            f"announced were {expect.size}, {expect.sha256}"
        )
