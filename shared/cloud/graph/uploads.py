"""Upload sessions: fragments strictly in order, in multiples of 320 KiB, at an address that is a permission by itself.

The session is asked not to take its name before `finish` says so (Business can do that); where it does all the same,
with the last fragment, what it made is remembered by the receipt of that part. A fragment is never sent twice without
asking first what is there: one that is there already is refused, and the answer that was lost said that it came.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from shared import clock
from shared.cloud.errors import (
    CloudError,
    ContentMismatch,
    NameTaken,
    NotFound,
    RateLimited,
    StoreFull,
    StoreUnavailable,
)
from shared.cloud.graph import wire
from shared.cloud.graph.client import GraphClient
from shared.cloud.graph.errors import ENDED, error_of
from shared.cloud.graph.items import Items
from shared.cloud.graph.names import checked
from shared.cloud.http import Answer
from shared.cloud.provider import HashKind, Object, Offer, Part, Upload

__all__ = ["FRAGMENT", "FRAGMENT_MAX", "Uploads"]

FRAGMENT: Final = 327_680
FRAGMENT_MAX: Final = 60 * 1024 * 1024 // FRAGMENT * FRAGMENT - FRAGMENT
_LIFETIME_S: Final = 86_400.0
_TRIES: Final = 4
_MADE: Final = "made:"
_SESSION: Final = re.compile(r"[\x21-\x7e]{1,8192}", re.ASCII)


class _State(msgspec.Struct, frozen=True):
    url: str
    hashes: dict[HashKind, str]


class Uploads:
    """All uploads in parts below one root."""

    def __init__(self, client: GraphClient, items: Items, *, wall: Callable[[], float] = clock.wall) -> None:
        self._client = client
        self._items = items
        self._wall = wall

    async def begin(self, path: str, offer: Offer) -> Upload:
        """A session. Raises NameTaken when Graph says so by now."""
        parts = checked(path)
        if await self._items.look(path) is not None:
            raise NameTaken(f"{self._client.store}: {path!r} is there already")
        await self._check_room(path, offer.size)
        # No `fileSize`: Business answers 400 to it.
        body = {"item": {"@microsoft.graph.conflictBehavior": "fail", "name": parts[-1]}, "deferCommit": True}
        try:
            answer = await self._begin(path, body)
        except NotFound:
            await self._items.make_folder("/".join(parts[:-1]))
            answer = await self._begin(path, body)
        row = answer.decoded(wire.SessionRow, store=self._client.store)
        url = self._client.trusted(row.upload_url)
        if _SESSION.fullmatch(url) is None:
            raise StoreUnavailable(f"{self._client.store}: gave out an address that cannot be used")
        state = msgspec.json.encode(_State(url, dict(offer.hashes))).decode()
        ends = wire.at_of(row.expiration_date_time) or self._wall() + _LIFETIME_S
        return Upload(path, offer.size, state, ends)

    async def _check_room(self, path: str, size: int) -> None:
        """Better before the first byte than after the last."""
        row = await self._client.read("drive", f"{self._items.drive}?$select=id,quota", wire.DriveRow, what=path)
        if row.quota is not None and row.quota.remaining is not None and 0 <= row.quota.remaining < size:
            raise StoreFull(f"{self._client.store}: {path!r} has {size} bytes; there is room for {row.quota.remaining}")

    async def _begin(self, path: str, body: dict[str, object]) -> Answer:
        where = await self._items.at(path, "createUploadSession")
        # A session whose answer was lost ends by itself, so making another is harmless.
        return await self._client.call("upload.begin", "POST", where, what=path, body=body, cost=2, repeatable=True)

    async def parts(self, upload: Upload) -> Sequence[Part]:
        """What the session has. Raises NotFound when it is gone."""
        until = await self._has_until(upload, _state(upload))
        return [Part(0, until)] if until else []

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        """Bring one fragment, or what is missing of it."""
        state = _state(upload)
        end = start + len(content)
        at = start
        for attempt in range(_TRIES):
            answer: Answer | None = None
            try:
                answer = await self._put(upload, state, at, content[at - start :])
            except RateLimited:
                raise
            except StoreUnavailable:
                if attempt == _TRIES - 1:
                    raise
            if answer is not None and answer.status in (200, 201):
                made = answer.decoded(wire.DriveItem, store=self._client.store)
                return Part(start, end, f"{_MADE}{made.id}")
            if answer is not None and answer.status == 202:
                row = answer.decoded(wire.SessionRow, store=self._client.store)
                at = self._until(row, upload, unsaid=end)
            elif answer is None or answer.status == 416 or answer.status >= 500:
                # Perhaps it has this part, or some of it.
                at = await self._has_until(upload, state)
            else:
                raise self._refusal(answer, upload)
            if at >= end:
                return Part(start, end)
            if at < start:
                raise StoreUnavailable(f"{self._client.store}: the upload has {at} bytes, the part begins at {start}")
        raise StoreUnavailable(f"{self._client.store}: the upload does not get beyond byte {at}")

    async def finish(self, upload: Upload, parts: Sequence[Part]) -> Object:
        """Have it take its name. Raises NameTaken, ContentMismatch, NotFound when the session is gone."""
        state = _state(upload)
        receipt = next((part.receipt for part in parts if part.receipt and part.receipt.startswith(_MADE)), None)
        if receipt is not None:
            item = await self._items.look(upload.path, receipt.removeprefix(_MADE))
        else:
            # Told twice, the second time finds the session gone: whoever asks looks what has the name then.
            answer = await self._client.ask_open(
                "upload.commit", "POST", state.url, headers={"Content-Length": "0"}, body=b"", cost=2, repeatable=False
            )
            if answer.status not in (200, 201):
                raise self._refusal(answer, upload)
            item = answer.decoded(wire.DriveItem, store=self._client.store)
        if item is None:
            raise NotFound(f"{self._client.store}: {upload.path!r}: what the session made is gone")
        item = await self._items.with_hash(item)
        said, sent = item.hashes.get("quick_xor"), state.hashes.get("quick_xor")
        if item.size != upload.size or (said and sent and said != sent):
            await self._items.remove(item)
            raise ContentMismatch(
                f"{self._client.store}: {upload.path!r}: other bytes came to lie there than were sent"
            )
        return wire.object_of(item, upload.path)

    async def abort(self, upload: Upload) -> None:
        """Give it up. What took its name already stays."""
        answer = await self._client.ask_open("upload.cancel", "DELETE", _state(upload).url)
        if answer.status not in (200, 202, 204) and answer.status not in ENDED:
            raise error_of(answer, self._client.store, upload.path)

    async def _put(self, upload: Upload, state: _State, at: int, content: bytes) -> Answer:
        headers = {
            "Content-Range": f"bytes {at}-{at + len(content) - 1}/{upload.size}",
            "Content-Type": "application/octet-stream",
        }
        return await self._client.ask_open(
            "upload.put", "PUT", state.url, body=content, headers=headers, cost=2, repeatable=False
        )

    async def _has_until(self, upload: Upload, state: _State) -> int:
        answer = await self._client.ask_open("upload.status", "GET", state.url)
        if answer.status != 200:
            raise self._refusal(answer, upload)
        # A session that waits for its commit may say nothing of ranges any more.
        return self._until(answer.decoded(wire.SessionRow, store=self._client.store), upload, unsaid=upload.size)

    def _refusal(self, answer: Answer, upload: Upload) -> CloudError:
        """A session that is over says so in several ways; all of them mean that it begins anew."""
        if answer.status in ENDED and answer.status != 404:
            return NotFound(f"{self._client.store}: {upload.path!r}: its session is over (answered {answer.status})")
        return error_of(answer, self._client.store, upload.path)

    def _until(self, row: wire.SessionRow, upload: Upload, *, unsaid: int) -> int:
        try:
            return row.has_until(upload.size, unsaid=unsaid)
        except ValueError as error:
            raise StoreUnavailable(f"{self._client.store}: the upload of {upload.path!r}: {error}") from None


def _state(upload: Upload) -> _State:
    try:
        return msgspec.json.decode(upload.state, type=_State)
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise NotFound("the upload's state is not one of Graph") from None
