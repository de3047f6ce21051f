"""What an operator may ask of photos: which sizes, how they are encoded [pure].

Sizes come as text (`photo.sizes`: "1024,640"), because options are plain values. They are checked when the worker
starts, so that a slip costs a start and not every photo.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["MEGAPIXEL", "PhotoOptions", "photo_options", "sizes_problem"]

MEGAPIXEL: Final = 1_000_000
_SIZES_MAX: Final = 8
_SIDE_MIN: Final = 16
_SIDE_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class PhotoOptions:
    """Sides are of the longer side, in pixels; `sizes` are those besides photo and thumbnail, largest first."""

    max_side: int = 2048
    thumbnail_side: int = 320
    sizes: tuple[int, ...] = ()
    quality: int = 85
    progressive: bool = True
    placeholder: bool = True
    max_pixels: int = 100 * MEGAPIXEL
    max_bytes: int = 128 * 1024 * 1024
    position: Literal["keep", "strip"] = "strip"


def photo_options(given: Mapping[str, Any]) -> PhotoOptions:
    """Those of the operator's options that are a photo's; defaults for what is absent or of another type."""
    default = PhotoOptions()

    def whole(name: str, fallback: int, least: int, most: int) -> int:
        value = given.get(f"photo.{name}")
        return min(most, max(least, value)) if type(value) is int else fallback

    def flag(name: str, fallback: bool) -> bool:
        value = given.get(f"photo.{name}")
        return value if type(value) is bool else fallback

    return PhotoOptions(
        max_side=whole("max_side", default.max_side, _SIDE_MIN, _SIDE_MAX),
        thumbnail_side=whole("thumbnail_side", default.thumbnail_side, _SIDE_MIN, _SIDE_MAX),
        sizes=_sizes(given.get("photo.sizes", "")),
        quality=whole("quality", default.quality, 30, 95),
        progressive=flag("progressive", default.progressive),
        placeholder=flag("placeholder", default.placeholder),
        max_pixels=whole("max_pixels", default.max_pixels, 1, 10_000 * MEGAPIXEL),
        max_bytes=whole("max_bytes", default.max_bytes, 1, 2**40),
        position="keep" if given.get("photo.position") == "keep" else "strip",
    )


def sizes_problem(options: Mapping[str, Any]) -> str | None:
    """What is wrong with `photo.sizes`, if anything."""
    try:
        _sizes(options.get("photo.sizes", ""))
    except ValueError as error:
        return str(error)
    return None


def _sizes(value: Any) -> tuple[int, ...]:
    if type(value) is int:  # one size needs no quotes
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f'photo.sizes is {value!r}: write sides as text with commas, such as "1024,640"')
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in parts):
        raise ValueError(f'photo.sizes is {value!r}: write sides as whole numbers with commas, such as "1024,640"')
    sides = {int(part) for part in parts}
    if len(sides) > _SIZES_MAX or any(not _SIDE_MIN <= side <= _SIDE_MAX for side in sides):
        raise ValueError(f"photo.sizes is {value!r}: at most {_SIZES_MAX} sides of {_SIDE_MIN} to {_SIDE_MAX} pixels")
    return tuple(sorted(sides, reverse=True))
