"""All hashes of one content in one pass: the sha256 that is ours, and what the provider will say of it."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from shared.cloud.crc64nvme import Crc64Nvme
from shared.cloud.hashes import Digest
from shared.cloud.provider import HashKind
from shared.cloud.quick_xor import QuickXor

__all__ = ["ContentHashes", "agree", "computed", "proven"]

_MAKERS: Final[Mapping[HashKind, Callable[[], Any]]] = {
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "quick_xor": QuickXor,
    "crc64nvme": Crc64Nvme,
}
_STRONG: Final[frozenset[HashKind]] = frozenset({"sha256"})
_BASE64: Final = frozenset({"quick_xor", "crc64nvme"})


def computed(kinds: Collection[HashKind]) -> frozenset[HashKind]:
    """Those of the kinds that are computed here."""
    return frozenset(kinds) & _MAKERS.keys()


class ContentHashes:
    """Of a stream: `update` with its pieces in order. It blocks: large pieces belong into a thread."""

    def __init__(self, kinds: Collection[HashKind]) -> None:
        self._made: dict[HashKind, Any] = {kind: _MAKERS[kind]() for kind in computed(kinds)}
        self._made.setdefault("sha256", hashlib.sha256())
        self.size = 0

    def update(self, piece: bytes) -> None:
        """The next bytes."""
        for made in self._made.values():
            made.update(piece)
        self.size += len(piece)

    def digest(self) -> Digest:
        """Size and sha256 of all bytes so far."""
        return Digest(self.size, self._made["sha256"].hexdigest())

    def values(self) -> dict[HashKind, str]:
        """All of them, written as providers write them."""
        return {kind: made.base64() if kind in _BASE64 else made.hexdigest() for kind, made in self._made.items()}


def proven(ours: Mapping[HashKind, str], theirs: Mapping[HashKind, str]) -> bool | None:
    """As `agree`, but no content that somebody made to look the same passes: only a sha256 proves equality."""
    verdict = agree(ours, theirs)
    return None if verdict and not (ours.keys() & theirs.keys() & _STRONG) else verdict


def agree(ours: Mapping[HashKind, str], theirs: Mapping[HashKind, str]) -> bool | None:
    """Whether two say the same of their contents; None when they have no kind in common."""
    common = ours.keys() & theirs.keys()
    return all(ours[kind] == theirs[kind] for kind in common) if common else None
