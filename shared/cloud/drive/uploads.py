"""Uploads to Google Drive in parts, strictly in order, by a session that outlives the process.

The file comes to be in a folder of its own, out of everybody's sight, and gets its name when all of it was compared
with what was to come: nothing is seen half, and nothing wrong under the right name. A piece is sent once; when its
answer is lost the session is asked how far it came, since what it has must not be sent again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from shared import clock
from shared.cloud.drive import wire
from shared.cloud.drive.client import DriveClient
from shared.cloud.drive.names import PremadeIds
from shared.cloud.drive.tree import Tree
from shared.cloud.errors import CloudError, ContentMismatch, NotFound, RateLimited, StoreUnavailable
from shared.cloud.provider import HashKind, Offer, Part, Upload

__all__ = ["BLOCK", "Uploads", "mismatch"]

BLOCK: Final = 262_144
ASIDE: Final = ".uploads"
"""The folder at the top of the root in which files come to be."""
_LIFETIME_S: Final = 6 * 86_400.0
_TRIES: Final = 4


class _State(msgspec.Struct, frozen=True):
    session: str
    object_id: str
    hashes: dict[HashKind, str]


class Uploads:
    """All uploads in parts of one root."""

    def __init__(
        self,
        client: DriveClient,
        tree: Tree,
        ids: PremadeIds,
        *,
        store: str,
        wall: Callable[[], float] = clock.wall,
    ) -> None:
        self._client = client
        self._tree = tree
        self._ids = ids
        self._store = store
        self._wall = wall

    async def begin(self, path: str, offer: Offer) -> Upload:
        """A session for `offer.size` bytes; -1: nobody knows yet how many."""
        object_id = await self._ids.next()
        size = offer.size if offer.size >= 0 else None

        async def begin(aside: str) -> str:
            described = {"id": object_id, "name": f"{object_id}.part", "parents": [aside]}
            try:
                return await self._client.begin_upload(described, size, offer.content_type)
            except NotFound as error:
                raise self._tree.gone_folder(aside) from error

        session = await self._tree.within((ASIDE,), begin)
        state = msgspec.json.encode(_State(session, object_id, dict(offer.hashes))).decode()
        return Upload(path, offer.size, state, self._wall() + _LIFETIME_S)

    async def parts(self, upload: Upload) -> Sequence[Part]:
        """What the session has. Raises NotFound when it is gone."""
        state = _state(upload)
        try:
            held = await self._client.held(state.session, upload.size)
        except NotFound:
            # A session that did its work may be forgotten before what it made.
            if await self._client.file(state.object_id) is None:
                raise
            return [Part(0, upload.size)]
        end = upload.size if isinstance(held, wire.File) else held
        return [Part(0, end)] if end else []

    async def put_part(self, upload: Upload, start: int, content: bytes, *, total: int | None = None) -> Part:
        """Send one piece. `total` is the size of an upload that was begun without one, once it is known."""
        state = _state(upload)
        size = upload.size if upload.size >= 0 else total
        end = start + len(content)
        at = start
        for attempt in range(_TRIES):
            try:
                held = await self._client.put_bytes(state.session, at, content[at - start :], size)
            except (NotFound, RateLimited):
                raise
            except CloudError as error:
                # Perhaps it has some of it, or all: a piece at a place where it is not is refused, too.
                if attempt == _TRIES - 1:
                    raise
                held = await self._client.held(state.session, size)
                if not isinstance(held, wire.File) and not start <= held <= end:
                    raise StoreUnavailable(
                        f"{self._store}: the upload has {held} bytes, the part begins at {start}"
                    ) from error
            if isinstance(held, wire.File) or held >= end:
                return Part(start, end)
            at = max(start, held)
        raise StoreUnavailable(f"{self._store}: the upload does not get beyond byte {at}")

    async def sealed(self, upload: Upload, *, hashes: Mapping[HashKind, str], size: int) -> wire.File:
        """What came to be of it, compared with what was to come. What differs is removed."""
        state = _state(upload)
        file = await self._client.file(state.object_id)
        if file is None and size == 0:
            await self._client.put_bytes(state.session, 0, b"", 0)
            file = await self._client.file(state.object_id)
        if file is None:
            raise StoreUnavailable(f"{self._store}: {upload.path!r}: not all parts were put")
        if found := mismatch(file, size, hashes):
            await self.remove(file.id)
            raise ContentMismatch(f"{self._store}: {upload.path!r}: {found}")
        return file

    async def finish(self, upload: Upload, folder_id: str, name: str) -> wire.File:
        """Compare it and give it its name. Raises NameTaken, ContentMismatch."""
        file = await self.sealed(upload, hashes=_state(upload).hashes, size=upload.size)
        return await self._tree.give_name(file, folder_id, name)

    async def abort(self, upload: Upload) -> None:
        """Give it up; what was given its name stays."""
        state = _state(upload)
        try:
            await self._client.end_session(state.session)
        except CloudError:
            # It ends by itself.
            pass
        file = await self._client.file(state.object_id)
        aside = await self._tree.folder((ASIDE,))
        if file is not None and aside is not None and aside in file.parents:
            await self.remove(file.id)

    async def remove(self, object_id: str) -> None:
        """Remove an object that nobody saw."""
        try:
            await self._client.delete(object_id)
        except NotFound:
            pass


def _state(upload: Upload) -> _State:
    try:
        return msgspec.json.decode(upload.state, type=_State)
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise NotFound("the upload's state is not one of Google Drive") from None


def mismatch(file: wire.File, size: int, hashes: Mapping[HashKind, str]) -> str | None:
    """How a file differs from what was to come, by what both sides know; None: it is that."""
    if file.size != size:
        return f"{file.size} bytes came to lie there, not {size}"
    said = wire.hashes_of(file)
    for kind in ("sha256", "md5"):
        if kind in hashes and kind in said and hashes[kind] != said[kind]:
            return f"its {kind} is {said[kind]}, not {hashes[kind]}"
    return None
