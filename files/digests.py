"""What the gateway knows of contents it has read or received: their digests, for as long as the files stand.

Whoever asks for the hash of a file right after it was uploaded would else have the gateway read it all again. A file is
taken to stand while size, modification time and inode do, as everywhere (shared/cloud/store.py). Bounded: the one
that was asked for least recently goes.
"""

from collections import OrderedDict

from shared.cloud.hashes import Digest
from shared.cloud.store import Stat


class Digests:
    """At most `limit` of them."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._known: OrderedDict[str, tuple[Stat, Digest]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Digests({len(self._known)} of {self._limit})"

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, path: str, stat: Stat, digest: Digest) -> None:
        """What this file was seen to be."""
        self._known[path] = (stat, digest)
        self._known.move_to_end(path)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)

    def of(self, path: str, stat: Stat) -> Digest | None:
        """The digest of this very file, or None."""
        known = self._known.get(path)
        if known is None or known[0] != stat:
            return None
        self._known.move_to_end(path)
        return known[1]

    def forget(self, path: str) -> None:
        """The file is gone."""
        self._known.pop(path, None)
