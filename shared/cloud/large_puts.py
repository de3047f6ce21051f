"""A provider as the smaller port, whose large files are brought by the engine of uploads in parts.

So an attempt that breaks off in a file of gigabytes is gone on with by the next one, in whichever process, and all
large files of a process share one budget of memory. Everything else is the provider's own.
"""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from shared.cloud.errors import NameTaken
from shared.cloud.hashes import Digest
from shared.cloud.provider import Provider
from shared.cloud.store import Existed, Reader, Source, Stat, Stored
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_journal import Journal
from shared.cloud.transfer_source import FileContent

__all__ = ["LargePuts"]


class LargePuts:
    """See store.Store."""

    def __init__(self, provider: Provider, transfer: Transfer, journal: Journal) -> None:
        self._provider = provider
        self._transfer = transfer
        self._journal = journal

    def __repr__(self) -> str:
        return f"LargePuts({self._provider!r})"

    async def put_new(self, path: str, source: Source, *, expect: Digest | None = None) -> Stored | Existed:
        """See store.Store."""
        if not isinstance(source, Path):
            return await self._provider.put_new(path, source, expect=expect)
        content = await FileContent.of(source, self._transfer.threads)
        if content.size <= self._provider.capabilities.single_max:
            return await self._provider.put_new(path, source, expect=expect)
        digest = expect or (await self._transfer.measure(content)).digest()
        try:
            landed = await self._transfer.put(self._provider, path, content, expect=digest, journal=self._journal)
        except NameTaken:
            return Existed(None, digest)
        return Existed(digest, digest) if landed.existed else Stored(digest)

    def open(self, path: str) -> AbstractAsyncContextManager[Reader]:
        """See store.Store."""
        return self._provider.open(path)

    async def stat(self, path: str) -> Stat | None:
        """See store.Store."""
        return await self._provider.stat(path)

    async def content(self, path: str) -> tuple[Stat, Digest]:
        """See store.Store."""
        return await self._provider.content(path)

    async def remove(self, path: str) -> bool:
        """See store.Store."""
        return await self._provider.remove(path)
