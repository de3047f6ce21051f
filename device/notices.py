"""Notices that were said already, over all sockets of a client: known by their ids, a bounded number of them. Pure.

A notice comes at most once from each hub; the same one may come again on another socket, or from two hubs while the
device moves. Ids are kept as digests, so that a long id takes no more room than a short one.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

__all__ = ["Notices"]

_REMEMBERED: Final = 256


class Notices:
    """The newest are remembered; a repeat keeps its id young."""

    def __init__(self) -> None:
        self._said: OrderedDict[bytes, None] = OrderedDict()

    def is_new(self, notice_id: str) -> bool:
        """Whether this one was not said before; it is from now on."""
        digest = blake2b(notice_id.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in self._said:
            self._said.move_to_end(digest)
            return False
        self._said[digest] = None
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._said)
