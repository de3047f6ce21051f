"""Moving an object to another place, in its store or in another, so that a crash anywhere loses and doubles nothing.

Within a store that moves by itself, that is one call. Otherwise the content is streamed from one to the other, hashed
on the way, verified where it arrived, and only then does the source go, if it is still what was copied. A row says how
far a move came; the same call again goes on from there and ends as one that was never interrupted. Nothing is replaced:
a target that holds the same content is taken for the copy, any other raises NameTaken and the source stays.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from shared.cloud.errors import BadPath, CloudError, ContentChanged, ContentMismatch, NameTaken, NotFound
from shared.cloud.hash_kinds import agree, proven
from shared.cloud.hashes import Digest
from shared.cloud.paths import split_path
from shared.cloud.provider import HashKind, Object, Provider
from shared.cloud.transfer import Progress, Transfer
from shared.cloud.transfer_journal import Journal
from shared.cloud.transfer_source import StoredContent
from shared.cloud.versioned_put import FOLDER_MAX_BYTES, put_once
from shared.store import cloud_moves
from shared.store.cloud_moves import Ends, MoveRow
from shared.store.pool import Pool

__all__ = ["Moved", "Mover"]

_log = structlog.get_logger(__name__)

_PATH_MAX_BYTES = FOLDER_MAX_BYTES + 201


@dataclass(frozen=True, slots=True)
class Moved:
    """Where it lies now. `by_store`: no byte of it passed through this process."""

    path: str
    size: int
    sha256: str | None
    by_store: bool


class Mover:
    """Moves for one process."""

    def __init__(self, pool: Pool, transfer: Transfer, journal: Journal) -> None:
        self._pool = pool
        self._transfer = transfer
        self._journal = journal

    async def move(
        self,
        source: Provider,
        path: str,
        target: Provider,
        to: str,
        *,
        content_type: str = "application/octet-stream",
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Moved:
        """Move; repeating it after any interruption finishes it, and after its end says so.

        Raises NotFound, NameTaken, ContentChanged when the source was written to meanwhile (both then stay),
        ContentMismatch, StoreUnavailable, and what the pool does.
        """
        for one in (path, to):
            split_path(one)
            if len(one.encode()) > _PATH_MAX_BYTES:
                raise BadPath(f"the path has more than {_PATH_MAX_BYTES} bytes")
        ends = Ends(source.name, path, target.name, to)
        if (source.name, path) == (target.name, to):
            raise BadPath(f"{path!r}: is there already")
        row = await cloud_moves.find(self._pool, ends)
        found = await source.look(path)
        if found is None:
            return await self._after_its_source(ends, row, target)
        if row is not None and await self._is_copied(row, found, target, to):
            return await self._end(ends, source, found, row.sha256)
        await cloud_moves.begin(
            self._pool, ends, version=found.version, size=found.size, sha256=found.hashes.get("sha256")
        )
        try:
            if source.name == target.name and source.capabilities.moves:
                return await self._by_store(ends, source, found)
            sha256 = await self._copy(ends, source, found, target, content_type=content_type, on_progress=on_progress)
        except (NameTaken, NotFound, ContentChanged, ContentMismatch):
            await cloud_moves.forget(self._pool, ends, version=found.version)
            raise
        await self._note(ends, "copied", found.version, sha256)
        return await self._end(ends, source, found, sha256)

    async def _after_its_source(self, ends: Ends, row: MoveRow | None, target: Provider) -> Moved:
        """The source is gone: by this move, in an attempt before, or by somebody else."""
        if row is None:
            raise NotFound(f"{ends.from_path!r}: nothing is there")
        if row.state == "begun":
            there = await target.look(ends.to_path)
            if there is None or there.size != row.size or agree(_known(row), there.hashes) is False:
                await cloud_moves.forget(self._pool, ends, version=row.from_version)
                raise NotFound(f"{ends.from_path!r}: is gone, and did not come to {ends.to_path!r}")
        if row.state != "ended":
            await self._note(ends, "ended", row.from_version, row.sha256)
        return Moved(ends.to_path, row.size, row.sha256, by_store=ends.from_store == ends.to_store)

    async def _by_store(self, ends: Ends, store: Provider, found: Object) -> Moved:
        try:
            await store.move(ends.from_path, ends.to_path, object_id=found.object_id)
        except (NameTaken, NotFound):
            # Perhaps a rival for the same, or an answer that was lost: then it lies there.
            there = await store.look(ends.to_path)
            if there is None or not await self._same(store, found, there):
                raise
            if there.object_id != found.object_id:
                with contextlib.suppress(NotFound):
                    await self._remove(store, found)
        sha256 = found.hashes.get("sha256")
        await self._note(ends, "ended", found.version, sha256)
        return Moved(ends.to_path, found.size, sha256, by_store=True)

    async def _copy(
        self,
        ends: Ends,
        source: Provider,
        found: Object,
        target: Provider,
        *,
        content_type: str,
        on_progress: Callable[[Progress], None] | None,
    ) -> str:
        content = StoredContent(source, ends.from_path, found.size, object_id=found.object_id)
        sha256 = found.hashes.get("sha256")
        put = await put_once(
            self._transfer,
            target,
            ends.to_path,
            content,
            None if sha256 is None else Digest(found.size, sha256),
            known=found.hashes,
            identity=f"{ends.from_store}\0{found.object_id}\0{found.version}",
            content_type=content_type,
            journal=self._journal,
            on_progress=on_progress,
        )
        return put.content.sha256

    async def _is_copied(self, row: MoveRow, found: Object, target: Provider, to: str) -> bool:
        """Whether an attempt before brought this very version, and it still lies where it was brought."""
        if row.state != "copied" or row.from_version != found.version:
            return False
        there = await target.look(to)
        if there is None or there.size != row.size:
            return False
        verdict = proven({**found.hashes, **_known(row)}, there.hashes)
        if verdict is None:
            # The source is about to go: what its store cannot say of the copy has to be read.
            verdict = (await target.content(to, object_id=there.object_id))[1].sha256 == row.sha256
        return verdict

    async def _end(self, ends: Ends, source: Provider, found: Object, sha256: str | None) -> Moved:
        await self._remove(source, found)
        await self._note(ends, "ended", found.version, sha256)
        return Moved(ends.to_path, found.size, sha256, by_store=False)

    async def _note(self, ends: Ends, state: Literal["copied", "ended"], version: str, sha256: str | None) -> None:
        await cloud_moves.note(self._pool, ends, state, version=version, landed=ends.to_path, sha256=sha256)

    async def _remove(self, source: Provider, found: Object) -> None:
        """The source, last, unless somebody wrote there since. No provider lets it be held between look and remove."""
        now = await source.look(found.path, object_id=found.object_id)
        if now is None or now.object_id != found.object_id:
            return
        if now.version != found.version:
            raise ContentChanged(f"{found.path!r}: was written to while it was moved; both now stand")
        await source.remove(found.path, object_id=found.object_id)

    async def _same(self, store: Provider, one: Object, other: Object) -> bool:
        """Whether two objects of one store have the same content."""
        if one.size != other.size:
            return False
        if one.object_id == other.object_id:
            return True
        if (verdict := proven(one.hashes, other.hashes)) is not None:
            return verdict
        try:
            first = await store.content(one.path, object_id=one.object_id)
            second = await store.content(other.path, object_id=other.object_id)
        except CloudError as error:
            _log.info("two objects could not be compared", store=store.name, error=str(error))
            return False
        return first[1] == second[1]


def _known(row: MoveRow) -> dict[HashKind, str]:
    return {} if row.sha256 is None else {"sha256": row.sha256}
