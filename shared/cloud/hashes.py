"""Content hashes, computed while bytes pass by, so that no file is read twice or held whole."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Digest:
    """Size and sha256 (64 lower-case hex digits) of some content: equal digests mean equal content."""

    size: int
    sha256: str


class StreamHash:
    """The digest of a stream. `update` releases the interpreter's lock for large pieces."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.size = 0

    def update(self, piece: bytes) -> None:
        """The next bytes."""
        self._sha256.update(piece)
        self.size += len(piece)

    def digest(self) -> Digest:
        """Of all bytes so far."""
        return Digest(self.size, self._sha256.hexdigest())


def digest_of(content: bytes) -> Digest:
    """Of content that is in memory anyway."""
    return Digest(len(content), hashlib.sha256(content).hexdigest())
