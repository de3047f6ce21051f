"""A large picture made small, a band of rows at a time.

Resizing and converting a picture as a whole takes up to as much memory again as the picture. In bands it takes a few
megabytes, and the result is the same but for rounding, because the filter looks beyond the edges of a band.
"""

import math
from typing import Final

from PIL import Image

__all__ = ["on_white", "shrink"]

_BAND_ROWS: Final = 128
_AS_THEY_ARE: Final = frozenset({"RGB", "L", "CMYK"})


def shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A copy of that size as RGB, RGBA, L or CMYK."""
    if size == image.size:
        plain = _plain(image)
        return image.copy() if plain is image else plain
    (width, height), (full_width, full_height) = size, image.size
    scale = full_height / height
    reach = math.ceil(3 * max(1.0, scale)) + 2  # as far as the filter looks
    small: Image.Image | None = None
    for top in range(0, height, _BAND_ROWS):
        bottom = min(height, top + _BAND_ROWS)
        first, last = top * scale, min(bottom * scale, float(full_height))
        if image.mode in _AS_THEY_ARE:
            source, above = image, 0
        else:
            above = max(0, math.floor(first) - reach)
            below = min(full_height, math.ceil(last) + reach)
            source = _plain(image.crop((0, above, full_width, below)))
        band = source.resize(
            (width, bottom - top), Image.Resampling.LANCZOS, box=(0, first - above, full_width, last - above)
        )
        small = small or Image.new(band.mode, size)
        small.paste(band, (0, top))
    if small is None:
        raise AssertionError("a size has at least one row")
    return small


def on_white(image: Image.Image) -> Image.Image:
    """Without transparency; a JPEG has none."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGB", image.size, (255, 255, 255))
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in _AS_THEY_ARE or image.mode == "RGBA":
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _eight_bits(image)
    clear = image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if clear else "L" if image.mode == "1" else "RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Sixteen grey bits scaled to eight; a plain conversion would clip nearly all of them to white."""
    wide = image if image.mode == "I" else image.convert("I")
    return wide.point(lambda value: value * (1 / 256)).convert("L")
