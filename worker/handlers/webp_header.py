"""How large a WebP says it is, from its first 30 bytes [pure].

The decoder takes two canvases of memory as soon as a file is opened, so its own word on the size would come too late.
Source: the WebP container specification and RFC 9649 (VP8X, VP8L and VP8 headers).
"""

__all__ = ["webp_size"]

_HEAD_BYTES = 30


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height; None when the header is none."""
    if len(head) < _HEAD_BYTES or not (head.startswith(b"RIFF") and head.startswith(b"WEBP", 8)):
        return None
    chunk = head[12:16]
    if chunk == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if chunk == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None
