"""The bytes of a file, inflated where it is gzip, as a stream that never gives more than it may.

A few kilobytes of gzip can be terabytes of zeros. So what comes out is bounded as a whole, a piece of it at a time is
held, and whoever reads learns that it was too much rather than getting the beginning of it. A file that breaks off
or is damaged is refused: half of a table must not pass for all of it.
"""

import io
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from worker.handlers.contract import TooLarge, Unreadable

__all__ = ["GZIP_MAGIC", "InflatedFile", "is_gzip", "open_inflated"]

GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_READ_BYTES: Final = 64 * 1024


class InflatedFile(io.RawIOBase):
    """A gzip file of one or more members; padding of zeros after the last is no part of it."""

    def __init__(self, path: Path, *, bound: int) -> None:
        super().__init__()
        self._file: BinaryIO = path.open("rb")
        self._bound = bound
        self._given = 0
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._waiting = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Close the file below."""
        self._file.close()
        super().close()

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]  # narrower: what BufferedReader gives
        """The next bytes; 0 at the end. Raises TooLarge, Unreadable."""
        data = self._next(len(buffer))
        self._given += len(data)
        if self._given > self._bound:
            raise TooLarge(f"the file inflates to more than {self._bound:,} bytes")
        buffer[: len(data)] = data
        return len(data)

    def _next(self, most: int) -> bytes:
        while True:
            if self._member.eof:
                rest = (self._member.unused_data or self._file.read(_READ_BYTES)).lstrip(b"\0")
                while not rest:
                    read = self._file.read(_READ_BYTES)
                    if not read:
                        return b""
                    rest = read.lstrip(b"\0")
                self._member, self._waiting = zlib.decompressobj(_GZIP_WINDOW), rest
            compressed = self._waiting or self._file.read(_READ_BYTES)
            if not compressed:
                raise Unreadable(f"the gzip file breaks off after {self._given:,} inflated bytes")
            try:
                data = self._member.decompress(compressed, most)
            except zlib.error as error:
                raise Unreadable(f"the gzip file is damaged after {self._given:,} inflated bytes: {error}") from None
            self._waiting = self._member.unconsumed_tail
            if data:
                return data


def is_gzip(head: bytes) -> bool:
    """Whether a file that begins like this is gzip."""
    return head.startswith(GZIP_MAGIC)


def open_inflated(path: Path, *, bound: int) -> io.BufferedReader:
    """The file's bytes, inflated if they are gzip. Raises what InflatedFile raises, when it is read."""
    with path.open("rb") as file:
        head = file.read(len(GZIP_MAGIC))
    if is_gzip(head):
        return io.BufferedReader(InflatedFile(path, bound=bound), _READ_BYTES)
    return path.open("rb")
