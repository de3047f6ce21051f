"""The sha256 of files whose provider does not say it: read once, in a stream, a few at a time.

A page waits for small files. A large one is read beside the feed while its row says that it waits, and is announced
when it is read; so is one that cannot be read now, later and ever later. What is hashed is one version: the provider is
asked before it counts, and when the file was replaced meanwhile, the newer one is read.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from shared.cloud.errors import CloudError, ContentChanged, RateLimited, StoreUnavailable
from shared.cloud.hashes import StreamHash
from shared.cloud.provider import Provider
from watcher.places import shown
from watcher.remote.outcome import Content, Hashed, Hashes, Unreadable
from watcher.tasks import end

_log = structlog.get_logger(__name__)

SMALL_BYTES: Final = 16 * 1024 * 1024
AT_ONCE: Final = 4
LARGE_AT_ONCE: Final = 2
LARGE_MAX: Final = 100
_READ_S: Final = 60.0
_SLOWEST_BYTES_A_SECOND: Final = 100_000
_TRIES: Final = 3
_PATIENCE: Final = 4
_RETRY_S: Final = 2.0
_RETRY_MAX_S: Final = 300.0
_AGAIN_S: Final = 5.0
_KEPT: Final = 1000

_Key = tuple[str, str]


class Hasher:
    """Reads for one feed. `on_ready()` is called when a large file was read."""

    def __init__(self, provider: Provider, on_ready: Callable[[], None]) -> None:
        self._provider = provider
        self._on_ready = on_ready
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._large_at_once = asyncio.Semaphore(LARGE_AT_ONCE)
        self._large: dict[_Key, asyncio.Task[None]] = {}
        self._done: OrderedDict[_Key, Hashed] = OrderedDict()
        self._failures: OrderedDict[_Key, int] = OrderedDict()

    async def hashes(self, contents: Sequence[Content]) -> Hashes:
        """One outcome for each. Raises RateLimited, StoreUnavailable: then all of them are to be asked for again."""
        tasks = [asyncio.create_task(self._one(content), name=f"hash {shown(content.path)}") for content in contents]
        try:
            outcomes = await asyncio.gather(*tasks)
        except BaseException:
            await end(tasks)
            raise
        return {(one.item_id, one.version): outcome for one, outcome in zip(contents, outcomes, strict=True)}

    async def close(self) -> None:
        """Give up what is being read."""
        await end(list(self._large.values()))

    async def _one(self, content: Content) -> Hashed | Unreadable:
        key = (content.item_id, content.version)
        if (known := self._done.get(key)) is not None:
            return known
        if content.size > SMALL_BYTES:
            # Those that are too many come again, since their rows wait.
            if key not in self._large and len(self._large) < LARGE_MAX:
                task = asyncio.create_task(self._read_large(key, content), name=f"hash {shown(content.path)}")
                self._large[key] = task
            return Unreadable(_AGAIN_S)
        async with self._at_once:
            return await self._try(key, content)

    async def _read_large(self, key: _Key, content: Content) -> None:
        try:
            async with self._large_at_once:
                outcome = await self._try(key, content)
            if isinstance(outcome, Hashed):
                self._on_ready()
        except CloudError as error:
            _log.warning("large file not read, trying again", path=shown(content.path), error=str(error))
        finally:
            del self._large[key]

    async def _try(self, key: _Key, content: Content) -> Hashed | Unreadable:
        try:
            hashed = await self._read(content)
        except RateLimited:
            raise
        except (CloudError, TimeoutError) as error:
            failures = self._failures.pop(key, 0) + 1
            _keep(self._failures, key, failures)
            # The provider may be away, and then everything waits; one file must not make everything wait for long.
            if isinstance(error, StoreUnavailable) and failures <= _PATIENCE:
                raise
            retry_s = min(_RETRY_MAX_S, _RETRY_S * 2.0 ** min(failures, 16))
            _log.warning("file cannot be read now", path=shown(content.path), error=str(error), retry_s=retry_s)
            return Unreadable(retry_s)
        self._failures.pop(key, None)
        _keep(self._done, key, hashed)
        return hashed

    async def _read(self, content: Content) -> Hashed:
        provider, path, object_id = self._provider, content.path, content.object_id
        version = content.version
        for _ in range(_TRIES):
            read = StreamHash()
            async with asyncio.timeout(_READ_S + content.size / _SLOWEST_BYTES_A_SECOND):
                async with provider.open(path, object_id=object_id) as reader:
                    async for piece in reader.chunks():
                        read.update(piece)
                found = await provider.look(path, object_id=object_id)
            if found is None:
                raise ContentChanged("it is gone")
            if content.object_id is not None and found.object_id != content.object_id:
                # Where it was lies another, which is told of by itself; under this id nothing is announced again.
                raise ContentChanged("it is gone, and another has its path")
            digest = read.digest()
            if found.version == version and found.size == digest.size:
                return Hashed(version, digest.size, digest.sha256)
            version = found.version
        raise ContentChanged("it is written to all the time")


def _keep(kept: "OrderedDict[_Key, Hashed] | OrderedDict[_Key, int]", key: _Key, value: "Hashed | int") -> None:
    kept[key] = value  # type: ignore[assignment]
    while len(kept) > _KEPT:
        kept.popitem(last=False)
