"""quickXorHash [pure]: the only hash that OneDrive for Business and SharePoint say of a file; computed as bytes pass.

Each byte is xored into 160 bits, 11 bits further round than the one before it; at the end the length goes into the last
64 bits. After 160 bytes the place is the first one again, so bytes that lie a multiple of 160 apart may be xored
beforehand: whole blocks at a time, as large integers, and only one row of 160 bytes is shifted at the end.
It finds what went wrong on the way; it keeps nobody from making another file with the same hash.
"""

import base64
from typing import Final

__all__ = ["QuickXor", "quick_xor"]

_ROW: Final = 160
_ROWS: Final = 64
_BLOCK: Final = _ROWS * _ROW
_ROW_MASK: Final = (1 << 8 * _ROW) - 1
_BITS: Final = 160
_HASH_MASK: Final = (1 << _BITS) - 1
_SHIFT: Final = 11
_LENGTH_AT: Final = _BITS - 64


class QuickXor:
    """The hash of a stream: `update` with its pieces in order, of any sizes."""

    __slots__ = ("_row", "size")

    def __init__(self) -> None:
        self._row = 0
        self.size = 0

    def __repr__(self) -> str:
        return f"QuickXor({self.size} bytes)"

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """The next bytes."""
        view = memoryview(piece).cast("B")
        length = len(view)
        number = int.from_bytes
        start = self.size % _ROW
        head = min(length, _ROW - start) if start else 0
        if head:
            self._row ^= number(view[:head], "little") << 8 * start
        blocks = 0
        for at in range(head, length, _BLOCK):
            blocks ^= number(view[at : at + _BLOCK], "little")
        rows = _ROWS
        while rows > 1:
            rows //= 2
            blocks ^= blocks >> 8 * _ROW * rows
        self._row ^= blocks & _ROW_MASK
        self.size += length

    def digest(self) -> bytes:
        """Of all bytes so far: 20 bytes."""
        found = 0
        for place, byte in enumerate(self._row.to_bytes(_ROW, "little")):
            found ^= byte << place * _SHIFT % _BITS
        # What was shifted over the end comes in again at the beginning.
        found = (found & _HASH_MASK) ^ (found >> _BITS)
        found ^= self.size << _LENGTH_AT & _HASH_MASK
        return found.to_bytes(_BITS // 8, "little")

    def base64(self) -> str:
        """The digest as Graph writes it."""
        return base64.b64encode(self.digest()).decode("ascii")


def quick_xor(content: bytes) -> str:
    """Of content that is in memory anyway, as Graph writes it."""
    whole = QuickXor()
    whole.update(content)
    return whole.base64()
