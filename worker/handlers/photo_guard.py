"""What a photo may cost, decided from its header, before anything is decoded.

A file of a few kilobytes can declare a gigapixel. Two bounds: pixels (what people are told: at most 100 megapixels),
and the memory that decoding takes, which differs by format and is held against the bound of this process. The figures
per pixel were measured, not read: a PNG costs its own pixels, a WebP four times as much. What they miss ends as a
MemoryError, and that is an answer as well.
"""

import resource
from typing import Final

from PIL import Image

from worker.handlers.contract import TooLarge, Unreadable
from worker.handlers.image_formats import Taken, shown_format
from worker.handlers.photo_options import MEGAPIXEL

__all__ = ["check_memory", "check_pixels", "memory_of", "memory_of_image", "target_size"]

_SIDE_MAX: Final = 65_500  # the largest side a JPEG can have, and a bound for the others
_MEMORY_DEFAULT: Final = 500_000_000
# The interpreter with its libraries (35 MB), and what is held beside the decoded picture: the small one, encoders.
_RESERVED: Final = 80_000_000
_BYTES_PER_PIXEL: Final[dict[Taken, float]] = {"HEIF": 8.0, "WEBP": 18.0, "GIF": 9.0}
_BYTES_OF_MODE: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}


def check_pixels(size: tuple[int, int], limit: int) -> None:
    """Raises Unreadable, TooLarge."""
    width, height = size
    if width < 1 or height < 1:
        raise Unreadable(f"the header says {width} x {height} pixels")
    if max(width, height) > _SIDE_MAX:
        raise TooLarge(f"the photo is {width} x {height} pixels; a side may have at most {_SIDE_MAX}")
    if width * height > limit:
        raise TooLarge(
            f"the photo is {width} x {height} pixels, {width * height / MEGAPIXEL:.1f} megapixels; "
            f"at most {limit / MEGAPIXEL:g} are taken"
        )


def check_memory(form: Taken, need: float) -> None:
    """Whether so many bytes can be had in this process. Raises TooLarge."""
    soft = resource.getrlimit(resource.RLIMIT_DATA)[0]
    bound = _MEMORY_DEFAULT if soft == resource.RLIM_INFINITY else soft
    if need > bound - _RESERVED:
        raise TooLarge(
            f"decoding this {shown_format(form)} takes {need / 1e6:.0f} MB of memory and a handler may use "
            f"{bound / 1e6:.0f} MB in all; send it smaller, or as a baseline JPEG"
        )


def memory_of(form: Taken, size: tuple[int, int]) -> float | None:
    """What decoding takes where the format alone says it."""
    per_pixel = _BYTES_PER_PIXEL.get(form)
    return None if per_pixel is None else per_pixel * size[0] * size[1]


def memory_of_image(image: Image.Image, form: Taken, declared: tuple[int, int]) -> float:
    """What decoding an opened image takes; a JPEG's scale is set before."""
    if (known := memory_of(form, declared)) is not None:
        return known
    need = float(image.size[0] * image.size[1] * _BYTES_OF_MODE.get(image.mode, 4))
    if form == "PNG" and getattr(image, "is_animated", False):
        need *= 2  # the frame and the canvas it is put on
    if form == "JPEG" and (image.info.get("progressive") or image.info.get("progression")):
        # Held whole as coefficients of two bytes, whatever scale comes out in the end.
        layers = [(layer[1], layer[2]) for layer in getattr(image, "layer", [])]
        most = max((h * v for h, v in layers), default=1)
        need += 2.0 * declared[0] * declared[1] * sum(h * v for h, v in layers) / max(1, most)
    return need


def target_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size with at most `side` on the longer side, in the same shape; never larger than it is."""
    width, height = size
    longer = max(width, height)
    if longer <= side:
        return size
    return max(1, round(width * side / longer)), max(1, round(height * side / longer))
