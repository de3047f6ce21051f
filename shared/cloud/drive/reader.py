"""The bytes of a file at Google Drive, of the one revision that was opened.

A download by id is of the newest revision, whichever that is by then. So before a broken stream goes on, and at the end
of each, the file is asked whether it still is the revision that was opened; else ContentChanged.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.cloud.drive import wire
from shared.cloud.drive.client import DriveClient
from shared.cloud.errors import ContentChanged
from shared.cloud.http import Streamed
from shared.cloud.remote_reader import RemoteReader

__all__ = ["reader_of"]


def reader_of(client: DriveClient, file: wire.File, path: str) -> RemoteReader:
    """Holds no connection but while it is read."""
    begun = False

    async def check_unchanged() -> None:
        now = await client.file(file.id)
        if now is None or wire.version_of(now) != wire.version_of(file):
            raise ContentChanged(f"{path!r}: was written to, or is gone, while it was read")

    async def checked(streamed: Streamed) -> AsyncIterator[bytes]:
        async for piece in streamed.chunks():
            yield piece
        await check_unchanged()

    @asynccontextmanager
    async def fetch(start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        nonlocal begun
        if begun:
            await check_unchanged()
        begun = True
        async with client.download(file.id, start, end - start) as streamed:
            yield checked(streamed)

    return RemoteReader(wire.object_of(file, path), fetch)
