"""Colours as sRGB, whatever the camera or the printer's profile meant.

Screens and browsers take an untagged JPEG for sRGB, so that is what leaves. A profile comes from a stranger's file: it
is bounded in size, must fit the picture's own kind of colour, and a damaged one is left out and said, not a failure.
Profiles that change nothing visible (sRGB under its many names) are found by trying them, once each.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from PIL import Image, ImageChops, ImageCms

__all__ = ["ColorNote", "as_srgb"]

_PROFILE_MAX_BYTES: Final = 4 * 1024 * 1024
_REMEMBERED: Final = 4
_SAME: Final = 3  # of 255: what rounding does to sRGB that goes through a profile of sRGB
_FITTING: Final = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@dataclass(frozen=True, slots=True)
class ColorNote:
    """What became of the profile: `converted`, `same` (it was sRGB), or `ignored`."""

    name: str
    done: str

    def described(self) -> dict[str, str]:
        """For the metadata."""
        return {"name": self.name, "done": self.done}


def as_srgb(image: Image.Image, icc: Any, *, grey: bool) -> tuple[Image.Image, ColorNote | None]:
    """RGB in sRGB from RGB, L or CMYK. `grey`: its colours are all grey, though it may be RGB by now."""
    if not isinstance(icc, bytes) or not icc:
        return _converted(image), None
    if len(icc) > _PROFILE_MAX_BYTES:
        return _converted(image), ColorNote(f"profile of {len(icc)} bytes", "ignored")
    prepared = _prepared(icc)
    if prepared is None:
        return _converted(image), ColorNote("unreadable profile", "ignored")
    name, mode, transform = prepared
    if mode == "L" and grey and image.mode == "RGB":
        image = image.convert("L")
    if image.mode != mode:
        return _converted(image), ColorNote(name, "ignored")
    if transform is None:
        return image, ColorNote(name, "same")
    return ImageCms.applyTransform(image, transform) or image, ColorNote(name, "converted")


def _converted(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=_REMEMBERED)
def _prepared(icc: bytes) -> tuple[str, str, ImageCms.ImageCmsTransform | None] | None:
    """Name, mode and transformation (None where it changes nothing) of a profile; None when it is damaged."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        mode = _FITTING.get(profile.profile.xcolor_space)
        if mode is None:
            return None
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
        name = profile.profile.profile_description or profile.profile.model or "unnamed profile"
        if mode == "RGB" and _changes_nothing(transform):
            return _clean(name), mode, None
    except (OSError, ValueError, TypeError, SyntaxError, ImageCms.PyCMSError):
        return None
    return _clean(name), mode, transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = range(0, 256, 51)
    colors = bytes(value for r in levels for g in levels for b in levels for value in (r, g, b))
    before = Image.frombytes("RGB", (len(levels) ** 2, len(levels)), colors)
    after = ImageCms.applyTransform(before, transform)
    if after is None:
        raise AssertionError("not in place")
    difference = ImageChops.difference(before, after)
    return max(difference.tobytes()) <= _SAME


def _clean(name: str) -> str:
    return "".join(c for c in name if c.isprintable()).strip()[:80] or "unnamed profile"
