"""Putting without ever overwriting, under a name that counts on: `photo.jpg`, else `photo (v2).jpg`, ….

The number is claimed in Postgres, the store refuses what exists all the same, and what was met there is written down,
so the next writer passes it over. The same content ends at the same object, whoever brings it and how often: a writer
that crashed anywhere repeats itself and finds what it made.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

import structlog

from shared.cloud.beside import every
from shared.cloud.errors import BadPath, ContentMismatch, NameTaken, NotAFile
from shared.cloud.hash_kinds import agree
from shared.cloud.hashes import Digest
from shared.cloud.paths import split_path
from shared.cloud.provider import HashKind, Object, Provider
from shared.cloud.store import Existed
from shared.cloud.transfer import Progress, Transfer
from shared.cloud.transfer_journal import Journal
from shared.cloud.transfer_source import Content
from shared.store import cloud_names
from shared.store.cloud_names import Version
from shared.store.errors import StoreError
from shared.store.pool import Pool

__all__ = ["FOLDER_MAX_BYTES", "Placed", "PutOnce", "VersionedPut", "put_once"]

_log = structlog.get_logger(__name__)

FOLDER_MAX_BYTES: Final = 1024
_CLAIM_S: Final = 120.0
_NAMES_MAX: Final = 1_000
_TURNS: Final = 4
_PIECE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the content lies. `existed`: it did before. `object` is known when it was brought in parts."""

    path: str
    version: int
    content: Digest
    existed: bool
    object: Object | None


@dataclass(frozen=True, slots=True)
class PutOnce:
    """What `put_once` made, or found: `object` is known when it was brought in parts."""

    content: Digest
    existed: bool
    object: Object | None


async def put_once(
    transfer: Transfer,
    provider: Provider,
    path: str,
    content: Content,
    digest: Digest | None,
    *,
    known: Mapping[HashKind, str] | None = None,
    identity: str | None = None,
    content_type: str = "application/octet-stream",
    journal: Journal | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> PutOnce:
    """Put under this very name: in one request, or in parts; see Transfer.put. Raises NameTaken."""
    if content.size > provider.capabilities.single_max:
        landed = await transfer.put(
            provider,
            path,
            content,
            expect=digest,
            known=known,
            identity=identity,
            content_type=content_type,
            journal=journal,
            on_progress=on_progress,
        )
        return PutOnce(landed.content, landed.existed, landed.object)
    if digest is None:
        hashes = await transfer.measure(content, known or ())
        if agree(known or {}, hashes.values()) is False:
            raise ContentMismatch(f"{path!r}: what was read is not what was announced")
        digest = hashes.digest()
    put = await provider.put_new(path, _pieces(content), expect=digest)
    if isinstance(put, Existed) and not put.identical:
        raise NameTaken(f"{path!r}: something else has the name")
    if on_progress is not None:
        on_progress(Progress(path, content.size, content.size, 0, 0))
    return PutOnce(digest, isinstance(put, Existed), None)


async def _pieces(content: Content) -> AsyncIterator[bytes]:
    async with content.open() as reader:
        left = content.size
        while left:
            piece = await reader.read(min(left, _PIECE))
            left -= len(piece)
            yield piece


class VersionedPut:
    """Puts for one process. Writers by the hundred take turns at Postgres here, and not in everybody's queue for it."""

    def __init__(self, pool: Pool, transfer: Transfer, journal: Journal, *, claim_s: float = _CLAIM_S) -> None:
        self._pool = pool
        self._transfer = transfer
        self._journal = journal
        self._claim_s = claim_s
        self._turns = asyncio.Semaphore(_TURNS)

    async def put(
        self,
        provider: Provider,
        path: str,
        content: Content,
        *,
        digest: Digest | None = None,
        content_type: str = "application/octet-stream",
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Placed:
        """Put under the first name of the series of `path` that is free, or where the same content lies.

        Raises BadPath, StoreUnavailable, ContentMismatch, and what the pool does; then the same call goes on.
        """
        *parents, name = split_path(path)
        folder = "/".join(parents)
        if len(folder.encode()) > FOLDER_MAX_BYTES:
            raise BadPath(f"the folder's path has more than {FOLDER_MAX_BYTES} bytes")
        if digest is None:
            digest = (await self._transfer.measure(content)).digest()
        for _ in range(_NAMES_MAX):
            async with self._turns:
                version = await cloud_names.claim(self._pool, provider.name, folder, name, digest, ttl_s=self._claim_s)
            at = "/".join((*parents, version.name))
            try:
                async with self._renewing(provider, folder, version, digest):
                    put = await put_once(
                        self._transfer,
                        provider,
                        at,
                        content,
                        digest,
                        content_type=content_type,
                        journal=self._journal,
                        on_progress=on_progress,
                    )
            except (NameTaken, NotAFile):
                # Somebody's who did not ask: a number that is never given out again.
                async with self._turns:
                    await cloud_names.found(self._pool, provider.name, folder, version.name, None)
                continue
            await self._noted(provider, folder, version, digest)
            return Placed(at, version.number, digest, put.existed, put.object)
        raise NameTaken(f"{path!r}: {_NAMES_MAX} names in a row are taken by others")

    async def _noted(self, provider: Provider, folder: str, version: Version, digest: Digest) -> None:
        try:
            async with self._turns:
                await cloud_names.found(self._pool, provider.name, folder, version.name, digest)
        except StoreError as error:
            # It stands all the same. The claim lapses, and who is given the number next finds the name taken.
            _log.warning("a version was put and is not written down", store=provider.name, error=str(error))

    def _renewing(
        self, provider: Provider, folder: str, version: Version, digest: Digest
    ) -> AbstractAsyncContextManager[None]:
        async def renew() -> None:
            with contextlib.suppress(StoreError):
                await cloud_names.renew(self._pool, provider.name, folder, version.name, digest, ttl_s=self._claim_s)

        return every(self._claim_s / 3, renew)
