"""Bytes of an emulated provider on disk, hashed while they come: a gigabyte costs no more memory than a kilobyte."""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Protocol

__all__ = ["Blob", "BlobFolder", "Growing", "Hash"]

_PIECE: Final = 256 * 1024


class Hash(Protocol):
    """What hashlib's objects and ours have in common."""

    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


class Blob:
    """Content that does not change any more. `hashes` are the raw digests by the names they were asked for."""

    def __init__(self, path: Path, size: int, hashes: dict[str, bytes]) -> None:
        self.path = path
        self.size = size
        self.hashes = hashes

    def pieces(self, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes from `start`."""
        left = self.size - start if length is None else min(length, self.size - start)
        with self.path.open("rb") as file:
            file.seek(start)
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece

    def read(self) -> bytes:
        """All of it; for small ones."""
        return self.path.read_bytes()


class Growing:
    """Content that is still coming. What is beyond the last multiple of `block` can be taken back."""

    def __init__(self, path: Path, hashes: dict[str, Any], *, block: int) -> None:
        self.path = path
        self.size = 0
        self._hashes = hashes
        self._block = block
        self._pending = bytearray()
        self._file: IO[bytes] = path.open("wb")

    def write(self, piece: bytes) -> None:
        """Append."""
        self._file.write(piece)
        self.size += len(piece)
        self._pending += piece
        whole = len(self._pending) // self._block * self._block
        if whole:
            self._hash(bytes(self._pending[:whole]))
            del self._pending[:whole]

    def cut(self) -> None:
        """Take back what is beyond the last whole block: what a connection that broke leaves at a provider."""
        self.size -= len(self._pending)
        self._pending.clear()
        self._file.seek(self.size)
        self._file.truncate()

    def seal(self) -> Blob:
        """It is complete."""
        self._hash(bytes(self._pending))
        self._pending.clear()
        self._file.close()
        return Blob(self.path, self.size, {name: made.digest() for name, made in self._hashes.items()})

    def discard(self) -> None:
        """It is given up."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _hash(self, piece: bytes) -> None:
        for made in self._hashes.values():
            made.update(piece)


class BlobFolder:
    """Where an emulator keeps bytes. `hashes` makes the hash objects of one content, by name."""

    def __init__(self, folder: Path, *, block: int = _PIECE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._block = block
        self._numbers = itertools.count(1)

    def begin(self) -> Growing:
        """Room for new content."""
        return Growing(self._folder / f"{next(self._numbers):08}", self.make_hashes(), block=self._block)

    def make_hashes(self) -> dict[str, Any]:
        """Those that are computed of every content."""
        return {"md5": hashlib.md5(), "sha256": hashlib.sha256()}

    def put(self, content: bytes) -> Blob:
        """Content that is at hand."""
        growing = self.begin()
        growing.write(content)
        return growing.seal()
