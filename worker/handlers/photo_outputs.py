"""The files a photo becomes, and the placeholder a device shows before it has them.

Each size is made from the next larger one. Nothing of the source travels along unlisted: no comment, no block, no
profile. The placeholder is a data URL of a few hundred characters, so it comes with the response's own document.
"""

import base64
import io
from pathlib import Path
from typing import Final

from PIL import Image, ImageFilter

from worker.handlers.photo_guard import target_size
from worker.handlers.photo_options import PhotoOptions

__all__ = ["PHOTO", "THUMBNAIL", "placeholder", "write_sizes"]

PHOTO: Final = "photo.jpg"
THUMBNAIL: Final = "thumbnail.jpg"
_THUMBNAIL_QUALITY: Final = 75
_PLACEHOLDER_SIDE: Final = 24


def write_sizes(photo: Image.Image, folder: Path, options: PhotoOptions, exif: bytes) -> dict[str, tuple[int, int]]:
    """The photo, the further sizes that are smaller than it, and the thumbnail, by name."""
    photo.info.clear()
    longer = max(photo.size)
    photo.save(
        folder / PHOTO, "JPEG", quality=options.quality, progressive=options.progressive, optimize=True, exif=exif
    )
    written = {PHOTO: photo.size}
    wanted = [(side, f"photo-{side}.jpg") for side in options.sizes if side < longer]
    current = photo
    for side, name in sorted([*wanted, (options.thumbnail_side, THUMBNAIL)], reverse=True):
        size = target_size(photo.size, side)
        current = current if size == current.size else current.resize(size, Image.Resampling.LANCZOS)
        small = name == THUMBNAIL
        current.save(
            folder / name, "JPEG", quality=_THUMBNAIL_QUALITY if small else options.quality,
            progressive=options.progressive and not small, optimize=not small,
        )  # fmt: skip
        written[name] = current.size
    return written


def placeholder(photo: Image.Image) -> str:
    """A blurred miniature as `data:image/webp;base64,…`; to be drawn at the photo's size."""
    size = target_size(photo.size, _PLACEHOLDER_SIDE)
    tiny = photo.resize(size, Image.Resampling.BOX, reducing_gap=1.0).filter(ImageFilter.GaussianBlur(1))
    buffer = io.BytesIO()
    tiny.save(buffer, "WEBP", quality=40, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
