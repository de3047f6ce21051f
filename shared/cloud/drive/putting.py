"""Putting content whose size need not be known: at once where it is small, else aside and moved to its name."""

import asyncio
import contextlib
from typing import Final

from shared.cloud.drive import wire
from shared.cloud.drive.client import DriveClient
from shared.cloud.drive.reader import reader_of
from shared.cloud.drive.tree import Tree
from shared.cloud.drive.uploads import BLOCK, Uploads, mismatch
from shared.cloud.errors import CloudError, ContentMismatch, NameTaken, NotAFile
from shared.cloud.hashes import Digest, StreamHash
from shared.cloud.paths import split_path
from shared.cloud.pieces import Pieces
from shared.cloud.provider import Offer
from shared.cloud.remote_reader import digest_of_reader
from shared.cloud.store import Existed, Source, Stored

__all__ = ["SINGLE_MAX", "Putting", "as_file", "digest_of"]

SINGLE_MAX: Final = 4 * 1024 * 1024
_PIECE: Final = 16 * BLOCK


class Putting:
    """Into one root."""

    def __init__(self, client: DriveClient, tree: Tree, uploads: Uploads, *, store: str) -> None:
        self._client = client
        self._tree = tree
        self._uploads = uploads
        self._store = store

    async def put_new(self, path: str, source: Source, expect: Digest | None) -> Stored | Existed:
        """See store.Store."""
        parts = split_path(path)
        async with Pieces(source, _PIECE) as pieces:
            first = await pieces.next()
            if pieces.ended and len(first) <= SINGLE_MAX:
                return await self._put_single(path, parts, first, expect)
            return await self._put_in_parts(path, parts, first, pieces, expect)

    async def _put_single(
        self, path: str, parts: tuple[str, ...], content: bytes, expect: Digest | None
    ) -> Stored | Existed:
        hashed = StreamHash()
        hashed.update(content)
        offered = hashed.digest()
        _check(path, offered, expect)
        return await self._tree.within(parts[:-1], lambda folder_id: self._made(path, folder_id, content, offered))

    async def _made(self, path: str, folder_id: str, content: bytes, offered: Digest) -> Stored | Existed:
        name = split_path(path)[-1]

        async def make(object_id: str) -> wire.File:
            described = {"id": object_id, "name": name, "parents": [folder_id]}
            return await self._client.create(described, content, "application/octet-stream")

        for attempt in (0, 1):
            there = await self._tree.occupy(folder_id, name, make)
            file = there.file
            if not there.made:
                # Never to be removed, whatever it holds: a rival was told that it is stored.
                content_there = await digest_of(self._client, as_file(file, path), path)
                is_stored = there.is_ours and content_there == offered
                return Stored(offered) if is_stored else Existed(content_there, offered)
            if (found := mismatch(file, offered.size, {"sha256": offered.sha256})) is None:
                return Stored(offered)
            await self._uploads.remove(file.id)
            await self._tree.gone(file)
            if attempt:
                raise ContentMismatch(f"{self._store}: {path!r}: {found}")
        raise AssertionError("the second attempt ends in one way or the other")

    async def _put_in_parts(
        self, path: str, parts: tuple[str, ...], first: bytes, pieces: Pieces, expect: Digest | None
    ) -> Stored | Existed:
        hashed = StreamHash()
        upload = await self._uploads.begin(path, Offer(-1))
        try:
            piece = first
            while True:
                after = b"" if pieces.ended else await pieces.next()
                start = hashed.size
                # Large enough to be felt by everybody else in the loop.
                await asyncio.to_thread(hashed.update, piece)
                if expect is not None and hashed.size > expect.size:
                    raise ContentMismatch(f"{path!r}: more bytes came than the {expect.size} announced")
                is_last = pieces.ended and not after
                await self._uploads.put_part(upload, start, piece, total=hashed.size if is_last else None)
                if is_last:
                    break
                piece = after
            offered = hashed.digest()
            _check(path, offered, expect)
            file = await self._uploads.sealed(upload, hashes={"sha256": offered.sha256}, size=offered.size)
            try:
                await self._tree.within(parts[:-1], lambda folder: self._tree.give_name(file, folder, parts[-1]))
            except NameTaken:
                there = await self._tree.find_path(parts)
                if there is None:
                    raise
                await self._uploads.remove(file.id)
                return Existed(await digest_of(self._client, as_file(there, path), path), offered)
            return Stored(offered)
        except BaseException:
            with contextlib.suppress(CloudError):
                await self._uploads.abort(upload)
            raise


async def digest_of(client: DriveClient, file: wire.File, path: str) -> Digest:
    """What Drive says of the content is believed; where it says nothing, the bytes are read."""
    if file.sha256_checksum:
        return Digest(file.size or 0, file.sha256_checksum.lower())
    return await digest_of_reader(reader_of(client, file, path))


def as_file(file: wire.File, path: str) -> wire.File:
    """The file, if it is one. Raises NotAFile."""
    if not file.is_file:
        raise NotAFile(f"{path!r}: a folder, a link or a document without bytes")
    return file


def _check(path: str, offered: Digest, expect: Digest | None) -> None:
    if expect is not None and offered != expect:
        raise ContentMismatch(
            f"{path!r}: came with {offered.size} bytes, sha256 {offered.sha256}; "
            f"announced was {expect.size} bytes, sha256 {expect.sha256}"
        )
