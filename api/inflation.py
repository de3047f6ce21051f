"""Bodies that come compressed by gzip: inflated piece by piece, never further than they may.

A thousand bytes of zeros take one byte to send, so what is sent says nothing of what it becomes. Inflating stops at the
limit of the operation, at a ratio that no JSON of ours has, and takes steps of 64 KiB: a body that is refused was never
in memory whole.
"""

import zlib
from typing import Final

from api.problems import Problem

__all__ = ["RATIO_FLOOR_BYTES", "RATIO_MAX", "Inflater"]

RATIO_MAX: Final = 200
RATIO_FLOOR_BYTES: Final = 64 * 1024
"""Below it any ratio is fine: a small body of blanks harms nobody."""

_STEP_BYTES: Final = 64 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS


class Inflater:
    """One body. What `feed` refuses, it refuses with a Problem (400, 413)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stream = zlib.decompressobj(_GZIP)
        self._parts: list[bytes] = []
        self._taken = 0
        self._made = 0

    def __repr__(self) -> str:
        return f"Inflater({self._taken} bytes became {self._made} of {self._limit})"

    def feed(self, part: bytes) -> None:
        """Some more compressed bytes."""
        self._taken += len(part)
        is_full = True
        # A step that came out full may have more to give although it took all of the input.
        while part or (is_full and not self._stream.eof):
            if self._stream.eof:
                raise _broken("goes on after the end of its gzip stream")
            try:
                made = self._stream.decompress(part, _STEP_BYTES)
            except zlib.error:
                raise _broken("is not gzip, as Content-Encoding says") from None
            is_full = len(made) == _STEP_BYTES
            self._made += len(made)
            if self._made > self._limit:
                detail = f"the body has more than {self._limit} bytes when inflated"
                raise Problem("too-large", detail, limit=self._limit, close=True)
            if self._made > max(RATIO_FLOOR_BYTES, RATIO_MAX * self._taken):
                detail = f"the body inflates more than {RATIO_MAX} times; send it as it is"
                raise Problem("too-large", detail, limit=self._limit, close=True)
            self._parts.append(made)
            part = self._stream.unconsumed_tail or self._stream.unused_data

    def whole(self) -> bytes:
        """The body, when all of it was fed."""
        if not self._stream.eof:
            raise _broken("ends before its gzip stream does")
        return b"".join(self._parts)


def _broken(how: str) -> Problem:
    return Problem("invalid-body", f"the body {how}", close=True)
