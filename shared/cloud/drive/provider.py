"""Google Drive as a provider: one folder, in a shared drive or in somebody's own, reached by a service account.

Names: see names.py and tree.py. Content that fits into one request is made at its place at once; what is larger comes
to be aside and is moved (uploads.py). There are no addresses that work without permission for a while, so
`download_url` gives none: whoever serves such a file reads it here and passes it on.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from shared import clock
from shared.cloud.drive import changes, wire
from shared.cloud.drive.client import DriveClient
from shared.cloud.drive.names import Claims, NoClaims, PremadeIds
from shared.cloud.drive.putting import SINGLE_MAX, Putting, as_file, digest_of
from shared.cloud.drive.reader import reader_of
from shared.cloud.drive.tree import Tree
from shared.cloud.drive.uploads import ASIDE, BLOCK, Uploads
from shared.cloud.errors import Misconfigured, NameTaken, NotFound
from shared.cloud.hashes import Digest
from shared.cloud.paths import split_folder, split_path
from shared.cloud.provider import (
    Capabilities,
    ChangePage,
    Object,
    Offer,
    Part,
    Probe,
    Subscription,
    Upload,
    stat_of_object,
)
from shared.cloud.remote_reader import RemoteReader
from shared.cloud.store import Existed, Source, Stat, Stored

__all__ = ["CAPABILITIES", "DriveProvider"]

_FOLDERS_AT_ONCE: Final = 20
_FOLDERS_MAX: Final = 100_000

CAPABILITIES: Final = Capabilities(
    changes="delta",
    push=True,
    names_unique=False,
    case_sensitive=False,
    moves=True,
    hashes=frozenset({"sha256", "md5"}),
    single_max=SINGLE_MAX,
    part_multiple=BLOCK,
    part_min=BLOCK,
    part_max=64 * 1024 * 1024,
    parts_at_once=1,
)


class DriveProvider:
    """The files below the folder `root_id`. Without `claims` nothing can be put."""

    def __init__(self, client: DriveClient, root_id: str, *, name: str, claims: Claims | None = None) -> None:
        self.name = name
        self._client = client
        self._claims = claims or NoClaims()
        self._ids = PremadeIds(client)
        self._tree = Tree(client, self._claims, self._ids, root_id, store=name)
        self._uploads = Uploads(client, self._tree, self._ids, store=name)
        self._putting = Putting(client, self._tree, self._uploads, store=name)

    def __repr__(self) -> str:
        return f"DriveProvider({self.name}, {self._tree!r})"

    @property
    def capabilities(self) -> Capabilities:
        """See Provider."""
        return CAPABILITIES

    # Watching

    async def changes(self, cursor: str | None, *, partition: int | None = None) -> ChangePage:
        """See Provider."""
        return await changes.next_page(self._client, self._tree.root_id, cursor)

    async def subscribe(self, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """A new channel. One whose answer is lost ends by itself."""
        wanted = {
            "id": str(uuid.uuid4()),
            "type": "web_hook",
            "address": address,
            "token": secret,
            "expiration": str(int((clock.wall() + lifetime_s) * 1000)),
        }
        made = await self._client.watch(await self._client.start_token(), wanted)
        expires_at = made.expiration / 1000 if made.expiration is not None else clock.wall() + 3600.0
        return Subscription(made.id, made.resource_id, expires_at)

    async def renew(self, subscription: Subscription, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """Channels cannot be renewed: this is another one, and the old one goes on until the caller ends it."""
        return await self.subscribe(address, secret, lifetime_s=lifetime_s)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """See Provider."""
        if subscription.resource_id is None:
            return
        try:
            await self._client.stop(subscription.subscription_id, subscription.resource_id)
        except NotFound:
            pass

    # Objects

    def list(self, folder: str) -> AsyncIterator[Object]:
        """See Provider."""
        return self._list(split_folder(folder))

    async def _list(self, parts: tuple[str, ...]) -> AsyncIterator[Object]:
        top = await self._tree.folder(parts)
        left = {} if top is None else {top: "".join(f"{part}/" for part in parts)}
        while left:
            some = [left.popitem() for _ in range(min(len(left), _FOLDERS_AT_ONCE))]
            paths = dict(some)
            page: str | None = None
            there = list(paths)
            while True:
                found, there = await self._client.files_in(there, page=page)
                for file in found.files:
                    above = next((paths[one] for one in file.parents if one in paths), None)
                    if above is None:
                        continue
                    if file.is_folder:
                        if above + file.name == ASIDE:
                            continue
                        left[file.id] = f"{above}{file.name}/"
                    elif file.is_file:
                        yield wire.object_of(file, above + file.name)
                if len(left) > _FOLDERS_MAX:
                    raise Misconfigured(f"{self.name}: more than {_FOLDERS_MAX} folders wait to be listed")
                if (page := found.next_page_token) is None:
                    break

    async def look(self, path: str, *, object_id: str | None = None) -> Object | None:
        """See Provider."""
        file = await self._find(path, object_id)
        if file is None:
            return None
        if object_id == file.id:
            # It may lie elsewhere by now.
            path = await self._tree.path_of(file) or path
        return wire.object_of(file, path)

    async def stat(self, path: str, *, object_id: str | None = None) -> Stat | None:
        """See Provider."""
        file = await self._find(path, object_id)
        return None if file is None else stat_of_object(wire.object_of(file, path))

    async def content(self, path: str, *, object_id: str | None = None) -> tuple[Stat, Digest]:
        """See Provider. What Drive says of the content is believed; where it says nothing, the bytes are read."""
        file = await self._need(path, object_id)
        return stat_of_object(wire.object_of(file, path)), await self._digest(file, path)

    def open(self, path: str, *, object_id: str | None = None) -> AbstractAsyncContextManager[RemoteReader]:
        """See Provider."""
        return self._open(path, object_id)

    @asynccontextmanager
    async def _open(self, path: str, object_id: str | None) -> AsyncIterator[RemoteReader]:
        yield reader_of(self._client, await self._need(path, object_id), path)

    async def remove(self, path: str, *, object_id: str | None = None) -> bool:
        """Remove for good; where the account may not, put into the trash."""
        file = await self._find(path) if object_id is None else await self._by_id(path, object_id)
        if file is None:
            return False
        try:
            await self._client.delete(file.id)
        except NotFound:
            await self._tree.gone(file)
            return False
        except Misconfigured:
            await self._client.update(file.id, {"trashed": True})
        await self._tree.gone(file)
        return True

    async def remove_empty(self, folder: str) -> bool:
        """See Provider. Where the account may not remove for good, into the trash."""
        folder_id = await self._tree.folder(split_path(folder))
        file = await self._client.file(folder_id) if folder_id is not None else None
        if file is None:
            return True
        inside = await self._client.files(f"{wire.quoted(file.id)} in parents and trashed = false", size=1)
        if inside.files:
            return False
        try:
            await self._client.delete(file.id)
        except NotFound:
            pass
        except Misconfigured:
            await self._client.update(file.id, {"trashed": True})
        await self._tree.gone_empty(file)
        return True

    async def move(self, path: str, to: str, *, object_id: str | None = None) -> Object:
        """See Provider."""
        file, target = await self._need(path, object_id), split_path(to)
        moved = await self._tree.within(target[:-1], lambda folder: self._tree.give_name(file, folder, target[-1]))
        if not (file.parents == moved.parents and file.name == moved.name):
            await self._tree.gone(file)
        return wire.object_of(moved, to)

    async def download_url(
        self, path: str, *, name: str, content_type: str, lifetime_s: float, object_id: str | None = None
    ) -> str | None:
        """None: a download needs the account's token, which opens everything else, too."""
        return None

    # Putting

    async def put_new(self, path: str, source: Source, *, expect: Digest | None = None) -> Stored | Existed:
        """See store.Store."""
        return await self._putting.put_new(path, source, expect)

    # Uploads in parts

    async def begin(self, path: str, offer: Offer) -> Upload:
        """See Provider."""
        split_path(path)
        if await self._find(path) is not None:
            raise NameTaken(f"{self.name}: {path!r} is there already")
        return await self._uploads.begin(path, offer)

    async def parts(self, upload: Upload) -> Sequence[Part]:
        """See Provider."""
        return await self._uploads.parts(upload)

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        """See Provider."""
        return await self._uploads.put_part(upload, start, content)

    async def finish(self, upload: Upload, parts: Sequence[Part]) -> Object:
        """See Provider."""
        target = split_path(upload.path)
        file = await self._tree.within(target[:-1], lambda folder: self._uploads.finish(upload, folder, target[-1]))
        return wire.object_of(file, upload.path)

    async def abort(self, upload: Upload) -> None:
        """See Provider."""
        await self._uploads.abort(upload)

    # As a whole

    async def probe(self) -> Probe:
        """See Provider. The root has to be there, and a folder that files can be put into."""
        about, server_time = await self._client.about()
        root = await self._client.file(self._tree.root_id)
        if root is None or root.trashed or not root.is_folder:
            raise Misconfigured(
                f"{self.name}: the folder {self._tree.root_id} cannot be seen: share it with {about.user.email_address}"
            )
        quota = about.storage_quota
        return Probe(about.user.email_address, server_time, quota.usage, quota.limit)

    async def close(self) -> None:
        """Nothing of its own is open."""

    # Bits

    async def _find(self, path: str, object_id: str | None = None) -> wire.File | None:
        if object_id is not None and (file := await self._by_id(path, object_id)) is not None:
            return file
        found = await self._tree.find_path(split_path(path))
        return None if found is None else as_file(found, path)

    async def _by_id(self, path: str, object_id: str) -> wire.File | None:
        split_path(path)
        file = await self._client.file(object_id)
        return None if file is None or file.trashed else as_file(file, path)

    async def _need(self, path: str, object_id: str | None = None) -> wire.File:
        file = await self._find(path, object_id)
        if file is None:
            raise NotFound(f"{path!r}: nothing is there")
        return file

    async def _digest(self, file: wire.File, path: str) -> Digest:
        return await digest_of(self._client, file, path)
