"""What a photo says about itself: read with suspicion, and written back only in part.

Every value comes from a stranger's file: text is cut and cleaned, numbers that are not finite or make no sense are
left out, and an unreadable block is a note in the metadata, not a failure. The written block is built from a short
list of harmless tags; the position goes in only when the operator keeps it. Maker notes, serial numbers and XMP can
hold a position as well, so they never do.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

__all__ = ["PositionPolicy", "describe", "has_position", "read_exif", "written_exif"]

PositionPolicy = Literal["keep", "strip"]

_CAMERA_TAGS: Final = (Base.Make, Base.Model, Base.DateTime)
_EXPOSURE_TAGS: Final = (
    Base.DateTimeOriginal,
    Base.OffsetTimeOriginal,
    Base.ExposureTime,
    Base.FNumber,
    Base.ISOSpeedRatings,
    Base.FocalLength,
    Base.LensModel,
)
_POSITION_TAGS: Final = (
    GPS.GPSLatitudeRef, GPS.GPSLatitude, GPS.GPSLongitudeRef, GPS.GPSLongitude, GPS.GPSAltitudeRef, GPS.GPSAltitude,
    GPS.GPSTimeStamp, GPS.GPSDateStamp,
)  # fmt: skip


def read_exif(image: Image.Image) -> Image.Exif | None:
    """The block as Pillow reads it, its folders included; None when it is damaged."""
    try:
        exif = image.getexif()
        exif.get_ifd(IFD.Exif)
        exif.get_ifd(IFD.GPSInfo)
    except Exception:  # noqa: BLE001 - a crafted block makes the parser raise nearly anything
        return None
    return exif


def describe(exif: Image.Exif, policy: PositionPolicy) -> dict[str, Any]:
    """Camera, exposure, orientation and (by policy) position as JSON values, without what is absent or senseless."""
    exposure = exif.get_ifd(IFD.Exif)
    found: dict[str, Any] = {
        "make": _text(exif.get(Base.Make)),
        "model": _text(exif.get(Base.Model)),
        "lens": _text(exposure.get(Base.LensModel)),
        "taken_at": _taken_at(exposure.get(Base.DateTimeOriginal) or exif.get(Base.DateTime)),
        "utc_offset": _text(exposure.get(Base.OffsetTimeOriginal)),
        "exposure_s": _number(exposure.get(Base.ExposureTime)),
        "f_number": _number(exposure.get(Base.FNumber)),
        "iso": _number(exposure.get(Base.ISOSpeedRatings)),
        "focal_length_mm": _number(exposure.get(Base.FocalLength)),
        "orientation": _orientation(exif.get(Base.Orientation)),
    }
    described = {name: value for name, value in found.items() if value is not None}
    position = _position(exif.get_ifd(IFD.GPSInfo))
    if position is not None:
        described["position"] = position if policy == "keep" else "stripped"
    return described


def has_position(exif: Image.Exif) -> bool:
    """Whether it says where the photo was taken."""
    return _position(exif.get_ifd(IFD.GPSInfo)) is not None


def written_exif(exif: Image.Exif | None, policy: PositionPolicy) -> bytes:
    """The block for the response photo: listed tags only, upright, the position only if it is kept."""
    written = Image.Exif()
    if exif is None:
        return b""
    for tag in _CAMERA_TAGS:
        if (text := _text(exif.get(tag))) is not None:
            written[tag] = text
    exposure = exif.get_ifd(IFD.Exif)
    values = {int(tag): _writable(exposure.get(tag)) for tag in _EXPOSURE_TAGS}
    kept = {tag: value for tag, value in values.items() if value is not None}
    if kept:
        written.get_ifd(IFD.Exif).update(kept)
    gps = exif.get_ifd(IFD.GPSInfo)
    if policy == "keep" and _position(gps) is not None:
        written.get_ifd(IFD.GPSInfo).update({tag: gps[tag] for tag in _POSITION_TAGS if tag in gps})
    try:
        return written.tobytes() if len(written) or kept else b""
    except Exception:  # noqa: BLE001 - a value the writer cannot express costs the block, not the photo
        return b""


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    cleaned = "".join(c for c in value if c.isprintable()).strip()
    return cleaned[:120] or None


def _number(value: Any) -> float | None:
    if isinstance(value, tuple) and value:
        value = value[0]
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return round(number, 6) if math.isfinite(number) and 0 <= number < 1e9 else None


def _writable(value: Any) -> Any:
    return _text(value) if isinstance(value, str | bytes) else value if _number(value) is not None else None


def _taken_at(value: Any) -> str | None:
    """`2024:05:01 12:30:00` as `2024-05-01T12:30:00`: local time, as cameras have it."""
    text = _text(value)
    if text is None or len(text) != 19 or text[4] != ":" or text[10] != " ":
        return None
    return f"{text[:4]}-{text[5:7]}-{text[8:10]}T{text[11:]}"


def _orientation(value: Any) -> int | None:
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def _position(gps: Mapping[int, Any]) -> dict[str, float] | None:
    latitude = _degrees(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef), "S", 90.0)
    longitude = _degrees(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef), "W", 180.0)
    if latitude is None or longitude is None:
        return None
    position = {"latitude": latitude, "longitude": longitude}
    altitude = _number(gps.get(GPS.GPSAltitude))
    if altitude is not None:
        below = gps.get(GPS.GPSAltitudeRef) in (1, b"\x01")
        position["altitude_m"] = -altitude if below else altitude
    return position


def _degrees(value: Any, reference: Any, negative: str, bound: float) -> float | None:
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    parts = [_number(part) for part in value]
    if any(part is None for part in parts):
        return None
    degrees, minutes, seconds = (part or 0.0 for part in parts)
    total = degrees + minutes / 60 + seconds / 3600
    if total > bound:
        return None
    return round(-total if _text(reference) == negative else total, 7)
