"""A provider inside the test, as the port and the vendors' documents describe one: for what works by the port alone.

Two makes: `in_order` takes fragments one after the other and keeps what it got of one that was cut, as Graph and Drive
do; the other takes numbered parts in any order, as S3 does. `trouble` is asked before every call and says what goes
wrong with it. Bytes are in memory, in one buffer per object.
"""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from shared.cloud.errors import ContentMismatch, NameTaken, NotFound, RateLimited, StoreUnavailable
from shared.cloud.hashes import Digest, digest_of
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
from shared.cloud.quick_xor import quick_xor
from shared.cloud.store import Existed, Source, Stat, Stored

__all__ = ["Calls", "Died", "PlainProvider", "Trouble"]

UNIT = 1024


class Trouble(Enum):
    """What goes wrong with one call."""

    BEFORE = "nothing happened"
    AFTER = "it happened, and the answer was lost"
    HALF = "half of the bytes came"
    LIMIT = "asked too much"
    FORGOTTEN = "the upload is gone"
    DAMAGED = "a bit was turned on the way"
    DOWN = "it does not answer to anything"
    DIED = "the process died before the call"
    DIED_AFTER = "the process died when it had happened"


class Died(BaseException):
    """The process is gone."""


Calls = Callable[[str, int], Trouble | None]
"""Given the call's name and its number among those of its name, from 1: what goes wrong with it."""


def all_well(_call: str, _number: int) -> Trouble | None:
    return None


@dataclass
class Kept:
    object_id: str
    content: bytes
    damaged: bool = False


@dataclass
class Session:
    path: str
    size: int
    content: bytearray
    had: dict[int, int] = field(default_factory=dict)


class PlainProvider:
    """See above. `says` are the hashes that it tells, `late` after how many looks it does so. `early`: a name
    that is taken is known when an upload begins."""

    def __init__(
        self,
        name: str = "plain",
        *,
        in_order: bool = False,
        trouble: Calls = all_well,
        says: frozenset[HashKind] = frozenset({"sha256", "md5"}),
        late: int = 0,
        part_min: int = UNIT,
        single_max: int = 64 * UNIT,
        moves: bool = True,
        early: bool = False,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            changes="listing",
            push=False,
            names_unique=True,
            case_sensitive=True,
            moves=moves,
            hashes=says,
            single_max=single_max,
            part_multiple=UNIT,
            part_min=part_min,
            part_max=1 << 40,
            parts_at_once=1 if in_order else 3,
        )
        self.trouble = trouble
        self.objects: dict[str, Kept] = {}
        self.sessions: dict[str, Session] = {}
        self.calls: dict[str, int] = {}
        self.on_their_way = 0
        self.most_on_their_way = 0
        self._in_order = in_order
        self._late = late
        self._early = early
        self._ids = itertools.count(1)

    def _called(self, call: str) -> Trouble | None:
        self.calls[call] = number = self.calls.get(call, 0) + 1
        trouble = self.trouble(call, number)
        if trouble in (Trouble.BEFORE, Trouble.DOWN):
            raise StoreUnavailable(f"{call}: no answer")
        if trouble is Trouble.DIED:
            raise Died
        if trouble is Trouble.LIMIT:
            raise RateLimited(f"{call}: too many", retry_after_s=7)
        return trouble

    @staticmethod
    def _answered(call: str, trouble: Trouble | None) -> None:
        if trouble is Trouble.DIED_AFTER:
            raise Died
        if trouble in (Trouble.AFTER, Trouble.HALF):
            raise StoreUnavailable(f"{call}: the answer was lost")

    def text(self, path: str) -> bytes:
        return self.objects[path].content

    def outside(self, path: str, content: bytes) -> None:
        """Somebody else puts something there."""
        self.objects[path] = Kept(f"o{next(self._ids)}", content)

    def _object(self, path: str, kept: Kept, *, knows: bool = True) -> Object:
        hashes: dict[HashKind, str] = {}
        if knows:
            if "sha256" in self.capabilities.hashes:
                hashes["sha256"] = hashlib.sha256(kept.content).hexdigest()
            if "md5" in self.capabilities.hashes:
                hashes["md5"] = hashlib.md5(kept.content).hexdigest()
            if "quick_xor" in self.capabilities.hashes:
                hashes["quick_xor"] = quick_xor(kept.content)
        version = f"sha256:{hashlib.sha256(kept.content).hexdigest()}"
        return Object(kept.object_id, path, len(kept.content), version, hashes)

    def _find(self, path: str, object_id: str | None) -> tuple[str, Kept] | None:
        for there, kept in self.objects.items():
            if kept.object_id == object_id:
                return there, kept
        kept_there = self.objects.get(path)
        return None if kept_there is None else (path, kept_there)

    # Store

    def open(self, path: str, *, object_id: str | None = None) -> AbstractAsyncContextManager["PlainReader"]:
        return self._open(path, object_id)

    @asynccontextmanager
    async def _open(self, path: str, object_id: str | None) -> AsyncIterator["PlainReader"]:
        trouble = self._called("open")
        found = self._find(path, object_id)
        if found is None:
            raise NotFound(path)
        yield PlainReader(found[1].content, stat_of_object(self._object(*found)), cut=trouble is Trouble.HALF)

    async def put_new(self, path: str, source: Source, *, expect: Digest | None = None) -> Stored | Existed:
        if isinstance(source, Path):
            content = source.read_bytes()
        elif isinstance(source, bytes):
            content = source
        else:
            content = b"".join([piece async for piece in source])
        offered = digest_of(content)
        if expect is not None and offered != expect:
            raise ContentMismatch
        assert len(content) <= self.capabilities.single_max
        trouble = self._called("put_new")
        await asyncio.sleep(0)
        if path in self.objects:
            return Existed(digest_of(self.objects[path].content), offered)
        self.outside(path, content)
        self._answered("put_new", trouble)
        return Stored(offered)

    async def look(self, path: str, *, object_id: str | None = None) -> Object | None:
        self._called("look")
        found = self._find(path, object_id)
        knows = self._late <= 0
        self._late -= 1
        return None if found is None else self._object(*found, knows=knows)

    async def stat(self, path: str, *, object_id: str | None = None) -> Stat | None:
        found = await self.look(path, object_id=object_id)
        return None if found is None else stat_of_object(found)

    async def content(self, path: str, *, object_id: str | None = None) -> tuple[Stat, Digest]:
        self._called("content")
        found = self._find(path, object_id)
        if found is None:
            raise NotFound(path)
        return stat_of_object(self._object(*found)), digest_of(found[1].content)

    async def remove_empty(self, folder: str) -> bool:
        return not any(path.startswith(f"{folder}/") for path in self.objects)

    async def remove(self, path: str, *, object_id: str | None = None) -> bool:
        trouble = self._called("remove")
        for there, kept in list(self.objects.items()):
            if kept.object_id == object_id if object_id is not None else there == path:
                del self.objects[there]
                self._answered("remove", trouble)
                return True
        return False

    async def move(self, path: str, to: str, *, object_id: str | None = None) -> Object:
        trouble = self._called("move")
        found = self._find(path, object_id)
        if found is None:
            raise NotFound(path)
        if to in self.objects:
            raise NameTaken(to)
        self.objects[to] = self.objects.pop(found[0])
        self._answered("move", trouble)
        return self._object(to, self.objects[to])

    async def list(self, folder: str) -> AsyncIterator[Object]:
        for path, kept in list(self.objects.items()):
            if path.startswith(f"{folder}/") or not folder:
                yield self._object(path, kept)

    async def download_url(
        self, path: str, *, name: str, content_type: str, lifetime_s: float, object_id: str | None = None
    ) -> str | None:
        return None

    async def probe(self) -> Probe:
        self._called("probe")
        return Probe("a test")

    async def close(self) -> None:
        pass

    # Watching

    async def changes(self, cursor: str | None, *, partition: int | None = None) -> ChangePage:
        raise NotImplementedError

    async def subscribe(self, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        raise NotImplementedError

    async def renew(self, subscription: Subscription, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        raise NotImplementedError

    async def unsubscribe(self, subscription: Subscription) -> None:
        raise NotImplementedError

    # Uploads in parts

    async def begin(self, path: str, offer: Offer) -> Upload:
        trouble = self._called("begin")
        if self._early and path in self.objects:
            raise NameTaken(path)
        state = f"session-{next(self._ids)}"
        self.sessions[state] = Session(path, offer.size, bytearray(offer.size))
        self._answered("begin", trouble)
        return Upload(path, offer.size, state)

    def _session(self, upload: Upload, trouble: Trouble | None) -> Session:
        if trouble is Trouble.FORGOTTEN:
            self.sessions.pop(upload.state, None)
        if upload.state not in self.sessions:
            raise NotFound("no such upload")
        return self.sessions[upload.state]

    async def parts(self, upload: Upload) -> Sequence[Part]:
        session = self._session(upload, self._called("parts"))
        return [Part(start, end, f"r{start}") for start, end in session.had.items()]

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        self.on_their_way += 1
        self.most_on_their_way = max(self.most_on_their_way, self.on_their_way)
        try:
            return await self._put_part(upload, start, content)
        finally:
            self.on_their_way -= 1

    async def _put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        await asyncio.sleep(0)
        trouble = self._called("put_part")
        session = self._session(upload, trouble)
        end = start + len(content)
        assert end == session.size or len(content) % UNIT == 0, "a part that is no multiple"
        if trouble is Trouble.HALF:
            end = start + len(content) // 2 // UNIT * UNIT
        if self._in_order:
            beginning = session.had.get(0, 0)
            assert start <= beginning, f"a part at {start}, and it has {beginning}"
            session.content[start:end] = content[: end - start]
            if end > beginning:
                session.had = {0: end}
        elif trouble is not Trouble.HALF:
            session.content[start:end] = content
            session.had[start] = end
        if trouble is Trouble.DAMAGED and content:
            session.content[start] ^= 1
        self._answered("put_part", trouble)
        return Part(start, end, f"r{start}")

    async def finish(self, upload: Upload, parts: Sequence[Part]) -> Object:
        trouble = self._called("finish")
        session = self._session(upload, trouble)
        at = 0
        for part in parts:
            assert part.start == at, f"told of {parts}"
            assert self._in_order or part.receipt == f"r{part.start}"
            at = part.end
        assert at == session.size, f"told of {parts}, and it is {session.size} bytes"
        if sum(end - start for start, end in session.had.items()) != session.size:
            raise StoreUnavailable("not all parts came")
        if session.path in self.objects:
            raise NameTaken(session.path)
        if trouble is Trouble.DAMAGED and session.content:
            session.content[-1] ^= 1
        del self.sessions[upload.state]
        self.outside(session.path, bytes(session.content))
        self._answered("finish", trouble)
        knows = self._late <= 0
        return self._object(session.path, self.objects[session.path], knows=knows)

    async def abort(self, upload: Upload) -> None:
        self._called("abort")
        self.sessions.pop(upload.state, None)


class PlainReader:
    def __init__(self, content: bytes, stat: Stat, *, cut: bool) -> None:
        self._content = content
        self.stat = stat
        self._cut = cut

    async def _chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        for at in range(start, end, 100_000):
            if self._cut and at > start:
                raise StoreUnavailable("the stream was cut")
            yield self._content[at : min(end, at + 100_000)]

    def chunks(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        return self._chunks(start, len(self._content) if length is None else start + length)
