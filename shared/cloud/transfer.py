"""Uploads in parts, by the port alone: begun or gone on with, each part tried until it is in, verified or quarantined.

`put` ends in one of three ways: the object stands at its path with exactly these bytes (made now, or found there); an
error, after which the same call goes on where this one broke off; or ContentMismatch, when what the provider holds was
not what was sent, was removed, sent again and wrong again. Memory is bounded by parts on their way, whatever the size.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from random import Random
from typing import Any, Final
from uuid import uuid4

import structlog

from shared import clock
from shared.cloud.beside import every
from shared.cloud.byte_budget import ByteBudget
from shared.cloud.errors import (
    CloudError,
    ContentChanged,
    ContentMismatch,
    NameTaken,
    NotAFile,
    NotFound,
    StoreUnavailable,
)
from shared.cloud.hash_kinds import ContentHashes, agree, proven
from shared.cloud.hashes import Digest
from shared.cloud.provider import HashKind, Object, Offer, Part, Provider, Upload
from shared.cloud.threads import FileThreads
from shared.cloud.transfer_check import is_same
from shared.cloud.transfer_journal import Entry, Forgetful, Journal
from shared.cloud.transfer_parts import PartSender, SessionGone, Surroundings
from shared.cloud.transfer_plan import PART_BYTES, Patience, TransferPlan, part_size
from shared.cloud.transfer_source import Content
from shared.heap import give_back_large_blocks
from shared.telemetry.metrics import CLOUD_PARTS, CLOUD_QUARANTINED, CLOUD_RESTARTS

__all__ = ["QUARANTINE", "Landed", "Progress", "Transfer"]

_log = structlog.get_logger(__name__)

QUARANTINE: Final = ".quarantine"
"""The folder, at a provider's root, of what arrived wrong twice. Nothing there is ever watched."""

_BUFFERED: Final = 4 * PART_BYTES
_SESSIONS_LOST_MAX: Final = 3
_MISMATCHES_MAX: Final = 2
_PIECE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is. `retries` counts calls that were made again, `restarts` uploads that began anew."""

    path: str
    brought: int
    size: int
    retries: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Landed:
    """The object stands. `existed`: it did before, with the same content."""

    object: Object
    content: Digest
    existed: bool


@dataclass(slots=True)
class _Job:
    """One call of `put`."""

    provider: Provider
    path: str
    content: Content
    expect: Digest | None
    offer: Offer
    entry: Entry
    on_progress: Callable[[Progress], None] | None
    brought: int = 0
    retries: int = 0
    restarts: int = 0
    quarantined: bool = False

    def tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress(self.path, self.brought, self.content.size, self.retries, self.restarts))

    def retried(self) -> None:
        self.retries += 1
        CLOUD_PARTS.labels(self.provider.name, "again").inc()
        self.tell()

    async def quarantine(self, detail: str) -> None:
        self.quarantined = True
        CLOUD_QUARANTINED.labels(self.provider.name).inc()
        await self.entry.quarantined(detail)


class _WrongContent(Exception):
    """The provider has other bytes than were sent. With `made`, they have the name."""

    def __init__(self, made: Object | None) -> None:
        super().__init__(made)
        self.made = made


class Transfer:
    """The uploads in parts of one process: they share threads and the bytes they may hold."""

    def __init__(
        self,
        *,
        part_bytes: int = PART_BYTES,
        buffered_bytes: int = _BUFFERED,
        patience: Patience = Patience(),  # noqa: B008 - a frozen value
        beat_s: float = 20.0,
        rand: Random | None = None,
        time: Callable[[], float] = clock.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        # Parts are the largest blocks of any process that brings some: what is free has to be free for the system too.
        give_back_large_blocks()
        self.threads = FileThreads(3)
        self._part_bytes = part_bytes
        self._beat_s = beat_s
        self._around = Surroundings(
            ByteBudget(buffered_bytes),
            self.threads,
            patience,
            rand or Random(),  # noqa: S311 - jitter
            time,
            sleep,
        )

    def __repr__(self) -> str:
        return f"Transfer({self._around.budget!r}, {self.threads!r})"

    async def close(self) -> None:
        """Give the threads up."""
        await self.threads.close()

    async def measure(self, content: Content, kinds: Collection[HashKind] = ()) -> ContentHashes:
        """Read it once: its digest, and hashes of these kinds."""
        hashes = ContentHashes(kinds)
        async with content.open() as reader:
            while hashes.size < content.size:
                piece = await reader.read(min(_PIECE, content.size - hashes.size))
                await self.threads.run("what is to be uploaded", hashes.update, piece)
        return hashes

    async def put(
        self,
        provider: Provider,
        path: str,
        content: Content,
        *,
        expect: Digest | None = None,
        known: Mapping[HashKind, str] | None = None,
        identity: str | None = None,
        content_type: str = "application/octet-stream",
        journal: Journal | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Landed:
        """Make the object, in parts. Raises NameTaken when something else has the name.

        Raises ContentMismatch when the content is not what `expect`, or `known` of its hashes, says (nothing is made),
        or arrived wrong twice. With a journal, who calls again after a crash or an error goes on where it broke off: it
        is the same content by its sha256, for which it may be read once more, or by `identity`, which changes with it.
        """
        known = dict(known or {})
        if expect is None and journal is not None and identity is None:
            hashes = await self.measure(content, provider.capabilities.hashes)
            expect = hashes.digest()
            known |= hashes.values()
        elif expect is not None:
            known["sha256"] = expect.sha256
        if expect is not None and expect.size != content.size:
            raise ContentMismatch(f"{path!r}: has {content.size} bytes; announced were {expect.size}")
        same = expect or Digest(content.size, hashlib.sha256((identity or "").encode()).hexdigest())
        async with (journal or Forgetful()).hold(provider.name, path, same) as entry:
            offer = Offer(content.size, known, content_type)
            job = _Job(provider, path, content, expect, offer, entry, on_progress)
            async with every(self._beat_s, entry.beat):
                return await self._put(job)

    async def _put(self, job: _Job) -> Landed:
        try:
            return await self._until_it_stands(job)
        except NotAFile:
            # A folder has the name: no repetition would go on with it.
            await job.entry.ended()
            raise

    async def _until_it_stands(self, job: _Job) -> Landed:
        if (standing := await self._standing(job)) is not None:
            if job.entry.upload is not None:
                await self._abort(job, job.entry.upload)
            await job.entry.ended()
            if isinstance(standing, NameTaken):
                raise standing
            return standing
        lost = wrong = 0
        while True:
            try:
                landed = await self._attempt(job)
            except SessionGone as error:
                lost += 1
                await job.entry.save(None)
                if lost > _SESSIONS_LOST_MAX:
                    raise StoreUnavailable(f"{job.path!r}: its upload was forgotten {lost} times: {error}") from error
            except _WrongContent as error:
                wrong += 1
                await job.entry.save(None)
                await self._put_away(job, error.made, last=wrong >= _MISMATCHES_MAX)
            else:
                await job.entry.ended()
                return landed
            job.restarts += 1
            job.brought = 0
            CLOUD_RESTARTS.labels(job.provider.name).inc()
            job.tell()

    async def _attempt(self, job: _Job) -> Landed:
        capabilities = job.provider.capabilities
        try:
            upload, had = await self._begun(job)
        except NameTaken as error:
            # The provider knows by now. What it is decides, and to know that the source has to be read.
            hashes = await self.measure(job.content, capabilities.hashes | job.offer.hashes.keys())
            landed = await self._found(job, hashes, error)
            if landed is None:
                await job.entry.ended()
                raise
            return landed
        in_order = capabilities.parts_at_once <= 1
        part = part_size(capabilities, job.content.size, wanted=self._part_bytes)
        plan = TransferPlan(job.content.size, part, in_order=in_order, had=had)

        def brought() -> None:
            job.brought = plan.brought
            CLOUD_PARTS.labels(job.provider.name, "brought").inc()
            job.tell()

        job.brought = plan.brought
        job.tell()
        hashes = ContentHashes(capabilities.hashes | job.offer.hashes.keys())
        sender = PartSender(job.provider, upload, plan, self._around, on_brought=brought, on_retry=job.retried)
        try:
            async with job.content.open() as reader:
                await sender.send_all(reader, hashes)
            if agree(job.offer.hashes, hashes.values()) is False:
                raise ContentMismatch(f"{job.path!r}: the source is not what was announced; it was written to")
            return await self._finish(job, upload, plan.parts(), hashes)
        except (ContentMismatch, ContentChanged, NameTaken, NotAFile):
            # No repetition would go on with it.
            await self._abort(job, upload)
            if not job.quarantined:
                await job.entry.ended()
            raise
        except (SessionGone, _WrongContent):
            await self._abort(job, upload)
            raise

    async def _standing(self, job: _Job) -> Landed | NameTaken | None:
        """What stands there, as far as that is known without bringing a byte. The guard is still `finish`."""
        found = await self._around.persistently(lambda: job.provider.look(job.path), job.retried)
        if found is None or job.expect is None:
            return None
        verdict = found.size == job.content.size and agree(job.offer.hashes, found.hashes)
        if verdict is None:
            return None
        if verdict and proven(job.offer.hashes, found.hashes) is None:
            # It seems to be the same. Reading it is dear, bringing it again is dearer.
            provider, object_id = job.provider, found.object_id
            read = await self._around.persistently(lambda: provider.content(job.path, object_id=object_id), job.retried)
            verdict = read[1] == job.expect
        if not verdict:
            return NameTaken(f"{job.path!r}: something else has the name")
        return Landed(found, job.expect, existed=True)

    async def _begun(self, job: _Job) -> tuple[Upload, list[Part]]:
        """The upload to go on with, or a new one, and what the provider has of it."""
        if (kept := job.entry.upload) is not None and job.restarts == 0:
            try:
                had = await self._around.persistently(lambda: job.provider.parts(kept), job.retried)
                return kept, list(had)
            except NotFound:
                _log.info("an upload that broke off is gone at the store", store=job.provider.name, path=job.path)
        upload = await self._around.persistently(lambda: job.provider.begin(job.path, job.offer), job.retried)
        await job.entry.save(upload)
        return upload, []

    async def _finish(self, job: _Job, upload: Upload, parts: list[Part], hashes: ContentHashes) -> Landed:
        before = job.retries
        try:
            made = await self._around.persistently(lambda: job.provider.finish(upload, parts), job.retried)
        except ContentMismatch:
            raise _WrongContent(None) from None
        except (NameTaken, NotFound) as error:
            # Perhaps an answer that was lost: ours stands there. Perhaps another's; with the same content it serves.
            landed = await self._found(job, hashes, error)
            if landed is None:
                detail = f"{job.path!r}: something else has the name by now"
                if job.retries > before:
                    # Not removed: it may as well be somebody else's.
                    detail += "; it may be this upload, which arrived wrong and whose answer was lost"
                    await job.quarantine(detail)
                raise NameTaken(detail) from error
            await self._abort(job, upload)
            return landed
        if not await self._is_same(job, made, hashes, ours=True):
            raise _WrongContent(made)
        return Landed(made, hashes.digest(), existed=False)

    async def _found(self, job: _Job, hashes: ContentHashes, error: CloudError) -> Landed | None:
        """What has the name, when it is the same. Raises SessionGone when it is gone by now."""
        found = await self._around.persistently(lambda: job.provider.look(job.path), job.retried)
        if found is None:
            raise SessionGone(str(error)) from error
        if await self._is_same(job, found, hashes, ours=False):
            return Landed(found, hashes.digest(), existed=True)
        return None

    async def _is_same(self, job: _Job, found: Object, hashes: ContentHashes, *, ours: bool) -> bool:
        around = self._around
        return await is_same(job.provider, job.path, found, hashes, around=around, on_retry=job.retried, ours=ours)

    async def _put_away(self, job: _Job, made: Object | None, *, last: bool) -> None:
        """What arrived wrong goes before anybody takes it for right; the second time it is kept aside, for good."""
        store = job.provider.name
        _log.error("an upload arrived wrong", store=store, path=job.path, size=job.content.size, last=last)
        detail = f"{job.path!r}: the store has other bytes than were sent"
        if made is not None:
            kept = None
            if last and job.provider.capabilities.moves:
                aside = f"{QUARANTINE}/{uuid4()}/{PurePosixPath(job.path).name}"
                with contextlib.suppress(CloudError):
                    kept = await job.provider.move(job.path, aside, object_id=made.object_id)
            if kept is not None:
                detail += f"; kept as {kept.path}"
            else:
                try:
                    await self._around.persistently(
                        lambda: job.provider.remove(job.path, object_id=made.object_id), job.retried
                    )
                except CloudError as error:
                    detail, last = f"{detail}; it could not be removed: {error}", True
        if last:
            await job.quarantine(detail)
            raise ContentMismatch(detail)

    async def _abort(self, job: _Job, upload: Upload) -> None:
        try:
            await job.provider.abort(upload)
        except CloudError as error:
            _log.info("an upload was not given up at the store", store=job.provider.name, error=str(error))
