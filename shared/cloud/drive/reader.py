"""An open file at Google Drive: its newest revision, read in a stream that goes on after a break.

A download by id is of the newest revision, whichever that is by then. So before a broken stream goes on, and at its
end, the file is asked whether it still is the revision that was opened; else ContentChanged.
"""

from collections.abc import AsyncIterator
from typing import Final

from shared.cloud.drive import wire
from shared.cloud.drive.client import DriveClient
from shared.cloud.errors import ContentChanged, StoreUnavailable
from shared.cloud.provider import stat_of_object

__all__ = ["DriveReader"]

_BREAKS_MAX: Final = 5


class DriveReader:
    """See store.Reader. Holds no connection but while it is read."""

    def __init__(self, client: DriveClient, file: wire.File, path: str) -> None:
        self._client = client
        self._file = file
        self._path = path
        self.stat = stat_of_object(wire.object_of(file, path))

    def chunks(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See store.Reader."""
        return self._chunks(start, self.stat.size - start if length is None else min(length, self.stat.size - start))

    async def _chunks(self, position: int, left: int) -> AsyncIterator[bytes]:
        breaks = 0
        while left > 0:
            before = left
            try:
                async with self._client.download(self._file.id, position, left) as streamed:
                    async for piece in streamed.chunks():
                        if len(piece) > left:
                            raise ContentChanged(f"{self._path!r}: is longer than it was")
                        yield piece
                        position += len(piece)
                        left -= len(piece)
            except StoreUnavailable:
                breaks = 0 if left < before else breaks + 1
                if breaks >= _BREAKS_MAX:
                    raise
            else:
                if left > 0:
                    breaks += 1
                if breaks >= _BREAKS_MAX:
                    raise StoreUnavailable(f"{self._path!r}: its stream ends again and again")
            await self._check_unchanged()

    async def _check_unchanged(self) -> None:
        now = await self._client.file(self._file.id)
        if now is None or wire.version_of(now) != wire.version_of(self._file):
            raise ContentChanged(f"{self._path!r}: was written to, or is gone, while it was read")
