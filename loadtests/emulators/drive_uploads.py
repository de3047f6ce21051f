"""How bytes come into an emulated Google Drive: at once, with their description, or in order over many requests.

A session takes chunks of multiples of 256 KiB, the last one excepted, each where the last one ended. What a chunk left
that broke off counts up to its last whole block. A finished session goes on answering with the file it made.
"""

import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from loadtests.emulators.blobs import Blob, BlobFolder, Growing
from loadtests.emulators.clock import EmulatedClock
from loadtests.emulators.drive_corpus import DriveError

__all__ = ["BLOCK", "Session", "Sessions", "split_related"]

BLOCK: Final = 262_144
_LIFETIME_S: Final = 7 * 86_400.0
_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Session:
    """One upload on its way. `made` is the id of the file that came of it."""

    key: str
    metadata: dict[str, Any]
    file_id: str | None
    growing: Growing
    mime: str
    expires_at: float
    total: int | None = None
    made: str | None = None
    chunks: int = 0
    busy: bool = field(default=False, repr=False)


class Sessions:
    """All of them. `persist_max` bytes of each chunk are kept at most, as a provider in trouble does."""

    def __init__(self, clock: EmulatedClock, blobs: BlobFolder) -> None:
        self.open: dict[str, Session] = {}
        self.persist_max: int | None = None
        self.corrupt = 0
        """So many of the next uploads are stored with a wrong byte."""
        self._clock = clock
        self._blobs = blobs

    def begin(self, metadata: dict[str, Any], file_id: str | None, mime: str, total: int | None) -> Session:
        """A new one."""
        now = self._clock.now()
        for key in [one.key for one in self.open.values() if one.expires_at <= now]:
            self.drop(key)
        made = Session(
            secrets.token_urlsafe(48), metadata, file_id, self._blobs.begin(), mime, now + _LIFETIME_S, total
        )
        self.open[made.key] = made
        return made

    def find(self, key: str) -> Session:
        """It, while it lives."""
        found = self.open.get(key)
        if found is None or found.expires_at <= self._clock.now():
            raise DriveError(404, "notFound", "Upload session not found.")
        return found

    def drop(self, key: str) -> None:
        """It is gone, with its bytes unless a file has them."""
        found = self.open.pop(key, None)
        if found is not None and found.made is None:
            found.growing.discard()

    def close(self) -> None:
        """All of them are gone."""
        for key in list(self.open):
            self.drop(key)

    async def take(self, session: Session, request: Request) -> bool:
        """Whether all bytes are there after this request."""
        text = request.headers.get("content-range")
        length = int(request.headers.get("content-length") or 0)
        if text is None:
            await self._write(session, request.stream(), skip=0)
            return True
        found = _RANGE.fullmatch(text.strip())
        if found is None:
            raise DriveError(400, "badRequest", f"Failed to parse Content-Range header: {text}")
        start, end, total = found.groups()
        if total != "*":
            if session.total is not None and session.total != int(total):
                raise DriveError(400, "badRequest", "The total differs from the one that was announced.")
            session.total = int(total)
        if start is None:
            return session.total is not None and session.growing.size >= session.total
        size = int(end) - int(start) + 1
        is_last = session.total is not None and int(end) + 1 == session.total
        if size != length or size <= 0:
            raise DriveError(400, "badRequest", "Content-Length does not match Content-Range.")
        if session.total is not None and int(end) >= session.total:
            raise DriveError(400, "badRequest", "The chunk goes beyond the end.")
        if size % BLOCK and not is_last:
            raise DriveError(400, "badRequest", "Chunk sizes must be multiples of 262144 bytes.")
        if int(start) > session.growing.size:
            raise DriveError(400, "badRequest", "The chunk leaves a gap.")
        await self._write(session, request.stream(), skip=session.growing.size - int(start))
        return is_last and session.growing.size == session.total

    async def _write(self, session: Session, body: AsyncIterator[bytes], *, skip: int) -> None:
        if session.busy:
            raise DriveError(409, "conflict", "Another request of this session is on its way.")
        session.busy = True
        room = self.persist_max
        try:
            async for piece in body:
                fresh = piece[skip:]
                skip -= len(piece) - len(fresh)
                if room is not None:
                    fresh = fresh[:room]
                    room -= len(fresh)
                session.growing.write(fresh)
            if room == 0:
                session.growing.cut()
        except ClientDisconnect:
            session.growing.cut()
            raise
        finally:
            session.busy = False
            session.chunks += 1

    def seal(self, session: Session) -> Blob:
        """The bytes, complete."""
        return self.spoilt(session.growing.seal())

    def spoilt(self, blob: Blob) -> Blob:
        """The content with a wrong byte, when that is due."""
        if self.corrupt <= 0 or blob.size == 0:
            return blob
        self.corrupt -= 1
        content = blob.read()
        return self._blobs.put(bytes([content[0] ^ 1]) + content[1:])


def split_related(content_type: str, body: bytes) -> tuple[bytes, str, bytes]:
    """The description, and the media type and bytes of the content, of a multipart/related body."""
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if found is None:
        raise DriveError(400, "badContent", "Missing boundary")
    parts = body.split(b"--" + found[1].encode())
    if len(parts) != 4:
        raise DriveError(400, "badContent", "Malformed multipart body.")
    heads, contents = [], []
    for part in parts[1:3]:
        head, gap, content = part.lstrip(b"\r\n").partition(b"\r\n\r\n")
        if not gap:
            head, _, content = part.lstrip(b"\n").partition(b"\n\n")
        heads.append(head.decode())
        contents.append(content[: -2 if content.endswith(b"\r\n") else -1])
    mime = re.search(r"(?im)^content-type:\s*(\S+?);?\s*$", heads[1])
    return contents[0], mime[1] if mime else "application/octet-stream", contents[1]
