"""Colour profiles made by hand (ICC.1:2001): wide RGB, grey, and a printer's whose colours are all one grey."""

import struct
from typing import Final

# D50-adapted primaries of Display P3 and of sRGB, as their published profiles have them.
P3: Final = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB: Final = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def _text(name: str) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" * 79


def _profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    offset, table, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        data = content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = (
        struct.pack(">I", offset + len(body)) + b"\0\0\0\0" + struct.pack(">I", 0x02400000) + kind + space + connection
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    head += struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def rgb_profile(name: str, primaries: tuple[tuple[float, float, float], ...], gamma: float = 2.2) -> bytes:
    """Matrix and curve."""
    tags = {b"desc": _text(name), b"wtpt": _xyz(0.9642, 1.0, 0.8249)}
    for letter, primary in zip(b"rgb", primaries, strict=True):
        tags[bytes([letter]) + b"XYZ"] = _xyz(*primary)
        tags[bytes([letter]) + b"TRC"] = _gamma(gamma)
    return _profile(b"RGB ", b"XYZ ", b"mntr", tags)


def grey_profile(name: str, gamma: float) -> bytes:
    """One curve."""
    tags = {b"desc": _text(name), b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"kTRC": _gamma(gamma)}
    return _profile(b"GRAY", b"XYZ ", b"mntr", tags)


def ink_profile(name: str, lightness: int) -> bytes:
    """A table of two steps for each ink, every colour the same grey: what comes out shows that it was used."""
    head = (
        b"mft1\0\0\0\0" + struct.pack(">4B", 4, 3, 2, 0) + struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    )
    straight = bytes(range(256))
    # Ordered by cyan, magenta, yellow, black; black ink is black, so that the darkest that can be printed is known.
    lightnesses = [100 if cell == 0 else 0 if cell & 1 else lightness for cell in range(16)]
    cells = b"".join(bytes((round(value * 2.55), 128, 128)) for value in lightnesses)
    tags = {
        b"desc": _text(name),
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"A2B0": head + straight * 4 + cells + straight * 3,
    }
    return _profile(b"CMYK", b"Lab ", b"prtr", tags)
