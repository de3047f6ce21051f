"""What outlives the process of an upload, so that another goes on with it: a row (upload_rows.py) or a file beside.

An entry is there before the provider hears of the upload. It belongs to whoever holds it until it is given back or its
holder is silent; two who hold the same do each other no harm, for they bring the same bytes. What cannot be written
down costs the resume and nothing else: only `hold` raises.
"""

import asyncio
import fcntl
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

import structlog

from shared.cloud.errors import Misconfigured
from shared.cloud.hashes import Digest
from shared.cloud.provider import Upload

__all__ = ["Entry", "Forgetful", "Journal", "SidecarJournal"]

_log = structlog.get_logger(__name__)

_SIDECAR_MAX_BYTES: Final = 256 * 1024


class Entry(Protocol):
    """What is kept of one upload."""

    @property
    def upload(self) -> Upload | None:
        """What an earlier holder had begun at the provider."""
        ...

    async def save(self, upload: Upload | None) -> None:
        """This is under way now; None: nothing is any more."""
        ...

    async def beat(self) -> None:
        """Its holder lives."""
        ...

    async def ended(self) -> None:
        """There is nothing to go on with."""
        ...

    async def quarantined(self, detail: str) -> None:
        """What arrived is not what was sent, twice: for a person to look at."""
        ...


class Journal(Protocol):
    """Where entries are kept."""

    def hold(self, store: str, path: str, content: Digest) -> AbstractAsyncContextManager[Entry]:
        """The entry for this content at this place, made or found, until the block ends."""
        ...


class _Nothing:
    upload: Upload | None = None

    async def save(self, upload: Upload | None) -> None:
        pass

    async def beat(self) -> None:
        pass

    async def ended(self) -> None:
        pass

    async def quarantined(self, detail: str) -> None:
        pass


class Forgetful:
    """Keeps nothing: an upload that breaks off begins anew."""

    @asynccontextmanager
    async def hold(self, store: str, path: str, content: Digest) -> AsyncIterator[Entry]:
        """See Journal."""
        yield _Nothing()


class SidecarJournal:
    """A small file per upload in a folder of one's own, readable by its owner alone. For a command on one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"SidecarJournal({self._folder})"

    @asynccontextmanager
    async def hold(self, store: str, path: str, content: Digest) -> AsyncIterator[Entry]:
        """See Journal. Two commands for the same do not share an entry: the second keeps nothing."""
        key = hashlib.sha256(f"{store}\0{path}\0{content.sha256}".encode()).hexdigest()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._folder / f"{key}.json", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Misconfigured(f"{self._folder}: {error.strerror}; name a folder to remember uploads in") from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield _Nothing()
                return
            file = self._folder / f"{key}.json"
            try:
                yield _Sidecar(fd, file, path, content.size)
            finally:
                if os.fstat(fd).st_size == 0:
                    # It never came to anything that another could go on with.
                    file.unlink(missing_ok=True)
        finally:
            os.close(fd)


class _Sidecar:
    """A few hundred bytes, written in place and synced: one that was cut is as good as none."""

    def __init__(self, fd: int, file: Path, path: str, size: int) -> None:
        self._fd = fd
        self._file = file
        self.upload = self._read(path, size)

    def _read(self, path: str, size: int) -> Upload | None:
        try:
            kept = json.loads(os.pread(self._fd, _SIDECAR_MAX_BYTES, 0))
            session, expires_at = kept["session"], kept["expires_at"]
        except (ValueError, KeyError, TypeError):
            return None
        if not isinstance(session, str) or not (expires_at is None or isinstance(expires_at, float | int)):
            return None
        return Upload(path, size, session, expires_at)

    async def save(self, upload: Upload | None) -> None:
        kept = None if upload is None else {"session": upload.state, "expires_at": upload.expires_at}
        with suppress(OSError):
            await asyncio.to_thread(self._write, json.dumps(kept).encode())

    def _write(self, text: bytes) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)
        os.fsync(self._fd)

    async def beat(self) -> None:
        pass

    async def ended(self) -> None:
        with suppress(OSError):
            await asyncio.to_thread(self._file.unlink, missing_ok=True)

    async def quarantined(self, detail: str) -> None:
        _log.error("an upload is quarantined", detail=detail)
        await self.ended()
