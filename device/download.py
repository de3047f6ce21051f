"""Files, from the API's redirect to a verified file in a folder.

The API is asked with the token; where it sends us is asked without. Bytes go to a hidden part file, so that a cut
transfer goes on where it stopped, and the file appears under its name only when size and hash are right, by a link that
overwrites nothing. Memory is constant whatever the size.
"""

import asyncio
import errno
import fcntl
import os
import re
import ssl
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import httpx

from device.addresses import next_hop
from device.errors import DownloadError, FileDiffers, FileGone, HashMismatch, Refused, TransportError, Unreachable
from device.event import ResponseFile
from device.quiet import unlogged
from device.rest import Rest
from device.timing import Timing
from device.tls import default_tls
from shared.backoff import Backoff
from shared.protocol.ids import check_file_name

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Downloads"]

_CHUNK: Final = 256 * 1024
_HOPS_MAX: Final = 4
_TRIES_WITHOUT_PROGRESS: Final = 6
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,16})-\d{1,16}/(?:\d{1,16}|\*)", re.ASCII)


class Downloads:
    """All downloads of one client."""

    def __init__(self, rest: Rest, *, timing: Timing, rand: Random, tls: ssl.SSLContext | None = None) -> None:
        self._rest = rest
        self._timing = timing
        self._rand = rand
        self._tls = tls
        self._store: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close what is open."""
        if self._store is not None:
            await self._store.aclose()

    async def fetch(self, file: ResponseFile, folder: Path) -> Path:
        """The file's path in the folder, once it is complete. Tries go on as long as they get further.

        Raises DownloadError, or TransportError when several tries in a row brought nothing.
        """
        target = folder / check_file_name(file.name)
        # Asked before anything is made: a file in the way costs no transfer, and leaves no part file behind.
        if await asyncio.to_thread(_is_there, target, file) and not _Part.path_of(folder, file).exists():
            return target
        part = await asyncio.to_thread(_Part.open, folder, file)
        try:
            if await asyncio.to_thread(_is_there, target, file):
                part.discard()
                return target
            with unlogged():
                await self._complete(part, file)
            await asyncio.to_thread(part.publish, target, file)
        finally:
            part.close()
        return target

    def _client(self) -> httpx.AsyncClient:
        """A client of its own: nothing that belongs to the API (token, cookies) can leak to a store."""
        if self._store is None:
            self._store = httpx.AsyncClient(
                verify=self._tls or default_tls(),
                follow_redirects=False,
                timeout=httpx.Timeout(self._timing.read_stall_s, connect=self._timing.open_s),
                limits=httpx.Limits(max_connections=4, max_keepalive_connections=2),
                headers={"Accept-Encoding": "identity"},
            )
        return self._store

    async def _complete(self, part: "_Part", file: ResponseFile) -> None:
        backoff = Backoff(self._rand, base=self._timing.backoff_base_s, cap=self._timing.backoff_cap_s)
        resumed = part.size > 0
        furthest, short = part.size, 0
        while True:
            try:
                if part.size < file.size or file.size == 0:
                    await self._transfer(part, file)
                if await asyncio.to_thread(part.matches, file):
                    return
                await asyncio.to_thread(part.restart)
                if not resumed:
                    raise HashMismatch(f"{file.name}: what came does not have the announced sha256")
                resumed = False  # what was left from an earlier run may have been the damage
            except TransportError as error:
                short += isinstance(error, _Short)
                if short >= _TRIES_WITHOUT_PROGRESS:
                    raise HashMismatch(f"{error}, {short} times; {file.size} bytes were announced") from error
                # Further than ever, that is: a store that begins anew each time makes no progress by beginning.
                if part.size > furthest:
                    furthest = part.size
                    backoff.reset()
                elif backoff.attempt >= _TRIES_WITHOUT_PROGRESS:
                    raise
                wish = error.retry_after if isinstance(error, Refused) else None
                await asyncio.sleep(backoff.next() + min(wish or 0.0, self._timing.retry_after_max_s))

    async def _transfer(self, part: "_Part", file: ResponseFile) -> None:
        url = await self._rest.file_location(file.url)
        url = next_hop(self._rest.api + file.url if file.url.startswith("/") else file.url, url)
        for _ in range(_HOPS_MAX):
            headers = {"Range": f"bytes={part.size}-"} if part.size else {}
            try:
                async with self._client().stream("GET", url, headers=headers) as response:
                    location = response.headers.get("location")
                    if response.status_code in (301, 302, 303, 307, 308) and location is not None:
                        url = next_hop(url, location)
                        continue
                    await self._receive(part, file, response)
                    return
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                    raise DownloadError(f"{file.name}: {error.strerror}") from error
                raise Unreachable(f"{file.name}: {type(error).__name__}") from error
        raise DownloadError(f"{file.name}: more than {_HOPS_MAX} redirects")

    async def _receive(self, part: "_Part", file: ResponseFile, response: httpx.Response) -> None:
        match response.status_code:
            case 206:
                found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
                if found is None or int(found[1]) != part.size:
                    raise Unreachable(f"{file.name}: the store answered with another range")
            case 200:
                if part.size:
                    await asyncio.to_thread(part.restart)
            case 416:
                await asyncio.to_thread(part.restart)
                raise _Short(f"{file.name}: the store has fewer bytes than the part file")
            case 404 | 410:
                raise FileGone(f"{file.name}: the store does not have it")
            case status:
                # An address that has expired answers 403; the next try asks for a new one.
                raise Unreachable(f"{file.name}: the store answered HTTP {status}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise DownloadError(f"{file.name}: the store sent an encoding that was not asked for")
        async for chunk in _gathered(response.aiter_raw()):
            if part.size + len(chunk) > file.size:
                await asyncio.to_thread(part.restart)
                raise HashMismatch(f"{file.name}: the store sends more than the announced {file.size} bytes")
            await asyncio.to_thread(part.append, chunk)
        if part.size < file.size:
            raise _Short(f"{file.name}: the store says it is complete with {part.size} bytes")


class _Short(Unreachable):
    """The answer came whole and brings too few bytes. Maybe not the store's; said again and again, it is."""


class _Part:
    """The hidden file that grows, with the hash of what it holds. Locked, so that two downloads do not mix."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self.size = 0
        self._hash: _Hash = sha256()

    @staticmethod
    def path_of(folder: Path, file: ResponseFile) -> Path:
        return folder / f".{sha256(file.file_id.encode()).hexdigest()[:32]}.part"

    @classmethod
    def open(cls, folder: Path, file: ResponseFile) -> "_Part":
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = cls.path_of(folder, file)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DownloadError(f"{folder}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part = cls(path, fd)
            part.read_back(file.size)
        except BlockingIOError:
            os.close(fd)
            raise DownloadError(f"{file.name} is being downloaded already") from None
        except OSError as error:
            os.close(fd)
            raise DownloadError(f"{path}: {error.strerror}") from error
        return part

    def read_back(self, most: int) -> None:
        """Take up what an earlier run left."""
        while chunk := os.read(self._fd, _CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)
            if self.size > most:
                self.restart()
                return

    def append(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            written = os.write(self._fd, view)
            self._hash.update(view[:written])
            self.size += written
            view = view[written:]

    def matches(self, file: ResponseFile) -> bool:
        return self.size == file.size and self._hash.hexdigest() == file.sha256

    def restart(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.size = 0
        self._hash = sha256()

    def publish(self, target: Path, file: ResponseFile) -> None:
        """Durable under its name, or FileDiffers."""
        try:
            os.fsync(self._fd)
            try:
                os.link(self._path, target, follow_symlinks=False)
            except FileExistsError:
                if not _is_there(target, file):
                    raise FileDiffers(f"{target} is there already and is another file") from None
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                    raise
                # A file system without hard links: the check and the rename are two steps there.
                if target.exists() or target.is_symlink():
                    raise FileDiffers(f"{target} is there already") from None
                self._path.rename(target)
            self.discard()
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise DownloadError(f"{target}: {error.strerror}") from error

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._fd)


def _is_there(target: Path, file: ResponseFile) -> bool:
    """Whether the target is this very file. Raises FileDiffers when it is another one."""
    try:
        fd = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FileDiffers(f"{target} is there already and cannot be read as a file: {error.strerror}") from error
    with os.fdopen(fd, "rb") as there:
        if os.fstat(fd).st_size == file.size:
            digest = sha256()
            while chunk := there.read(_CHUNK):
                digest.update(chunk)
            if digest.hexdigest() == file.sha256:
                return True
    raise FileDiffers(f"{target} is there already and is another file; it was left as it is")


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Chunks large enough to be worth a thread, small enough to be held."""
    held = bytearray()
    try:
        async for chunk in chunks:
            held += chunk
            if len(held) >= _CHUNK:
                yield bytes(held)
                held.clear()
    except httpx.HTTPError:
        # What came before the cut counts: a link that never carries a whole chunk must still make progress.
        if held:
            yield bytes(held)
        raise
    if held:
        yield bytes(held)
