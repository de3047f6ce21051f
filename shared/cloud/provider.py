"""The port to a cloud provider: what all of them can do, however each of them does it [pure].

A provider is a `Store` with more: it tells changes, takes large content in parts, moves objects, gives addresses out.
What it cannot do it says in its `Capabilities`, and nobody asks for it. Paths are as in paths.py, relative to the root
that the provider was set up with; an `object_id` is the provider's own name of an object, which outlives a rename: a
call that is given one looks there first, and at the path only when that object is gone. Foreign errors become those of
errors.py in one table per provider, before anything leaves it.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from shared.cloud.hashes import Digest
from shared.cloud.store import Reader, Stat, Store

__all__ = [
    "Capabilities",
    "Change",
    "ChangePage",
    "Changed",
    "HashKind",
    "Object",
    "Offer",
    "Part",
    "Probe",
    "Provider",
    "Removed",
    "Subscription",
    "Upload",
    "stat_of_object",
]

HashKind = Literal["sha256", "md5", "quick_xor", "crc64nvme"]
"""Lower-case hex digits, except quick_xor and crc64nvme, which are base64 as their providers write them."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do. Sizes in bytes."""

    changes: Literal["delta", "listing"]
    """A log of changes behind a cursor, or only a listing that has to be compared with what is known."""
    push: bool
    """Whether it calls an address of ours when something changed."""
    names_unique: bool
    """Whether it refuses a second object of one name in a folder; if not, names are claimed in Postgres."""
    case_sensitive: bool
    moves: bool
    """Whether it moves an object between its folders by itself."""
    hashes: frozenset[HashKind]
    """What it says of content that it holds: of each object at least one of them."""
    single_max: int
    """The largest content that goes in one request."""
    part_multiple: int
    """Every part but the last is a multiple of this."""
    part_min: int
    part_max: int
    parts_at_once: int
    """Parts of one upload on their way at a time; 1: strictly in order."""


@dataclass(frozen=True, slots=True)
class Object:
    """A file, as the provider says. `version` changes with the content; equal versions of one object, equal content.

    `version` is `kind:value`. Where it comes from a hash, equal content has it too under another name. `stand_in`: the
    version that the same content had as long as the provider did not know its hash.
    """

    object_id: str
    path: str
    size: int
    version: str
    hashes: Mapping[HashKind, str] = field(default_factory=dict)
    modified_at: float | None = None
    stand_in: str | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """Something is there now. Either `path`, or `parent_id` and `name`, says where; `version` is None for a folder.

    `stand_in` as in `Object`.
    """

    item_id: str
    kind: Literal["file", "folder", "root"]
    path: str | None = None
    parent_id: str | None = None
    name: str | None = None
    size: int = 0
    version: str | None = None
    hashes: Mapping[HashKind, str] = field(default_factory=dict)
    modified_at: float | None = None
    stand_in: str | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """Something is gone, with all that was below it."""

    item_id: str


Change = Changed | Removed


@dataclass(frozen=True, slots=True)
class Span:
    """Ids above `above` up to and with `upto`, in the order of their bytes; `upto` None: to the end."""

    above: str
    upto: str | None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in the order the provider told them: of one item, the last counts.

    `cursor` is where to go on, to be kept only with the changes themselves. `more`: the next page can be had at once.
    `full`: the page is part of a run over everything, at whose last page (`more` is False) what was not told is gone.
    `span`: where ids are told in the order of their bytes, all that there is in it was told on this page, so that what
    is not among it is known to be gone at once. Either all pages of a run have one or none has.
    `hint_s`: the provider asks not to be polled sooner.
    """

    changes: Sequence[Change]
    cursor: str
    more: bool
    full: bool
    hint_s: float | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """Content that is to be uploaded. Hashes that are known beforehand let a provider refuse what is not it."""

    size: int
    hashes: Mapping[HashKind, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in parts that was begun at the provider. `state` is opaque text, enough to go on after a crash.

    It may hold an address that needs no other permission: never log it.
    """

    path: str
    size: int
    state: str = field(repr=False)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, end) that the provider has. `receipt` is what it wants to see of them at the end."""

    start: int
    end: int
    receipt: str | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A promise to call an address of ours. Times are wall-clock seconds."""

    subscription_id: str
    resource_id: str | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class Probe:
    """What one cheap request with the provider's credentials told, for whoever looks whether all is well."""

    who: str
    """The account, application or key that it went under, as far as it may be shown."""
    server_time: float | None = None
    """The provider's wall clock, to the second."""
    used: int | None = None
    total: int | None = None
    """Bytes; None where there is no quota or none that is told."""


def stat_of_object(found: Object) -> Stat:
    """What the smaller port says of an object that has no inode: another version, another number."""
    identity = hashlib.blake2b(f"{found.object_id}\0{found.version}".encode(), digest_size=8).digest()
    return Stat(found.size, round((found.modified_at or 0.0) * 1e9), int.from_bytes(identity) >> 1)


class Provider(Store, Protocol):
    """One root at one provider. Every call ends within its deadline; errors are those of errors.py.

    RateLimited says when to come back, CursorExpired that a full run is due, NameTaken that something is there already.
    """

    @property
    def name(self) -> str:
        """The store's name, as it stands in rows."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def probe(self) -> Probe:
        """Ask something cheap that needs the credentials. Raises Misconfigured, StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Give up what it holds; the HTTP client is not its own."""
        ...

    # Watching

    async def changes(self, cursor: str | None, *, partition: int | None = None) -> ChangePage:
        """The next page after `cursor`; None begins a run over everything. Raises CursorExpired."""
        ...

    async def subscribe(self, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """Have `address` called when something changes; `secret` comes with every call."""
        ...

    async def renew(self, subscription: Subscription, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """The same for longer, or a new one in its place; then the old one is for the caller to end."""
        ...

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End it; one that is gone already is no error."""
        ...

    # Objects

    def open(self, path: str, *, object_id: str | None = None) -> AbstractAsyncContextManager[Reader]:
        """As a store; the reader is of one version, and raises ContentChanged rather than mix two."""
        ...

    async def stat(self, path: str, *, object_id: str | None = None) -> Stat | None:
        """As a store; `stat_of_object` of what `look` would say."""
        ...

    async def content(self, path: str, *, object_id: str | None = None) -> tuple[Stat, Digest]:
        """As a store. One that knows the sha256 need not read."""
        ...

    async def remove(self, path: str, *, object_id: str | None = None) -> bool:
        """As a store. With an `object_id`, that object or none: never another that has the path by now."""
        ...

    async def remove_empty(self, folder: str) -> bool:
        """Remove a folder in which nothing is, no other folder either. Whether there is no such folder now."""
        ...

    def list(self, folder: str) -> AsyncIterator[Object]:
        """The files in a folder and below it, in no certain order; nothing for a folder that is not there.

        Their hashes may be left out where they cost more than the listing.
        """
        ...

    async def look(self, path: str, *, object_id: str | None = None) -> Object | None:
        """The file there with those hashes named in `capabilities` that the provider has of it. Raises NotAFile."""
        ...

    async def move(self, path: str, to: str, *, object_id: str | None = None) -> Object:
        """Move within the root, parents of `to` included. Raises NotFound, NameTaken; nothing is replaced."""
        ...

    async def download_url(
        self, path: str, *, name: str, content_type: str, lifetime_s: float, object_id: str | None = None
    ) -> str | None:
        """An address where the file can be fetched without other permission for a while. None: it gives none out."""
        ...

    # Uploads in parts

    async def begin(self, path: str, offer: Offer) -> Upload:
        """Begin one; nothing is at `path` before `finish`. Raises NameTaken when the provider knows it by now."""
        ...

    async def parts(self, upload: Upload) -> Sequence[Part]:
        """What the provider has of it, after a crash or an answer that was lost. Raises NotFound when it is gone."""
        ...

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        """Bring one part. All but the last are of the size that transfer_plan.py makes of the capabilities.

        Repeating it is harmless.
        """
        ...

    async def finish(self, upload: Upload, parts: Sequence[Part]) -> Object:
        """Give it its name. Raises NameTaken; ContentMismatch when the provider has other bytes than were offered."""
        ...

    async def abort(self, upload: Upload) -> None:
        """Give it up, if it is there at all."""
        ...
