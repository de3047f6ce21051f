"""Photos: JPEG, PNG or HEIC in; a JPEG of at most 2,048 px, a thumbnail and what the photo says about itself out.

A file of a few kilobytes can declare a gigapixel. So the header is read first, and the pixels that decoding would
really make (a large JPEG is decoded at half, a quarter or an eighth) are held against a limit before anything is
decoded. One decoded image is held at a time; what the limit misses ends at the process's memory bound, and that is an
answer as well.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import pillow_heif
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from worker.handlers.contract import Answer, ResponseFile, Task, TooLarge, Unreadable, Unsupported
from worker.handlers.exif import PositionPolicy, describe, read_exif, written_exif
from worker.handlers.image_formats import RAW_EXTENSIONS, Taken, name_of_unsupported, taken_format

__all__ = ["PhotoHandler"]

_HEAD_BYTES: Final = 4096
_ICC_MAX_BYTES: Final = 512 * 1024
_SIDE_MAX: Final = 65_500  # the largest side a JPEG can have, and a bound for the others

# Exif orientation (CIPA DC-008, 4.6.4) to what makes the photo upright; 1 is upright already.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING: Final = frozenset({_TURNS[n] for n in (5, 6, 7, 8)})

# Ours counts what decoding makes, before it is made; Pillow's would only warn at half of its own.
Image.MAX_IMAGE_PIXELS = None
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


class PhotoHandler:
    """Options: photo.max_side, .thumbnail_side, .quality, .max_pixels, .max_bytes, .position (keep or strip)."""

    kind = "photo"
    extensions = frozenset({".jpg", ".jpeg", ".png", ".heic", ".heif", ".hif"})
    also_answers = frozenset(RAW_EXTENSIONS)

    def recognises(self, head: bytes) -> bool:
        """A signature of a format that is taken."""
        return taken_format(head, "") is not None

    def run(self, task: Task) -> Answer:
        """photo.jpg, thumbnail.jpg and metadata.json; or a refusal that names what is wrong."""
        with task.path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        form = _check_format(head, task)
        policy: PositionPolicy = "keep" if task.option("photo.position", "strip") == "keep" else "strip"
        max_side = task.option("photo.max_side", 2048)
        with _reading(form), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damage that the decoders work round is not for the log
            with Image.open(task.path, formats=(form,)) as image:
                return _process(image, form, task, policy, max_side)


def _check_format(head: bytes, task: Task) -> Taken:
    if not head:
        raise Unreadable("the file is empty")
    form = taken_format(head, task.name)
    if form is None:
        if known := name_of_unsupported(head, task.name):
            raise Unsupported(f"{known} is not supported; send JPEG, PNG or HEIC")
        raise Unreadable("the file is not an image: it begins like no known image format; send JPEG, PNG or HEIC")
    size, limit = task.path.stat().st_size, task.option("photo.max_bytes", 128 * 1024 * 1024)
    if size > limit:
        raise TooLarge(f"the photo has {size} bytes; at most {limit} are taken")
    return form


@contextmanager
def _reading(form: Taken) -> Iterator[None]:
    """What a damaged file makes the decoders raise, as sentences without paths of this machine."""
    try:
        yield
    except MemoryError:
        raise TooLarge("decoding the photo needs more memory than a handler may use; send it smaller") from None
    except UnidentifiedImageError:
        raise Unreadable(f"the file begins like {_shown(form)} but its header is damaged") from None
    except (OSError, EOFError) as error:
        raise Unreadable(f"the {_shown(form)} data is damaged or cut short: {_reason(error)}") from None
    except (
        SyntaxError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        ZeroDivisionError,
        RuntimeError,
    ) as error:
        raise Unreadable(f"the {_shown(form)} data is damaged: {_reason(error)}") from None


def _shown(form: Taken) -> str:
    return "HEIC" if form == "HEIF" else form


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        raise error  # the disk, not the photo: this attempt failed
    return "".join(c for c in text if c.isprintable())[:160] or type(error).__name__


def _process(image: Image.Image, form: Taken, task: Task, policy: PositionPolicy, max_side: int) -> Answer:
    width, height = image.size
    _check_pixels(image, form, max_side, task.option("photo.max_pixels", 64_000_000))
    exif = read_exif(image)
    orientation = exif.get(Base.Orientation) if exif is not None else None
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    icc = image.info.get("icc_profile")
    source_mode = image.mode
    image.load()
    small = _shrink(image, max_side)
    image.close()
    photo = _as_rgb(small if turn is None else small.transpose(turn))
    keep_icc = source_mode in ("RGB", "RGBA") and isinstance(icc, bytes) and 0 < len(icc) <= _ICC_MAX_BYTES
    quality = min(95, max(30, task.option("photo.quality", 85)))
    photo.info.clear()  # nothing of the source's comments or blocks travels along unlisted
    photo.save(
        task.output / "photo.jpg", "JPEG", quality=quality, optimize=True,
        exif=written_exif(exif, policy), icc_profile=icc if keep_icc else b"",
    )  # fmt: skip
    written_size = photo.size
    side = task.option("photo.thumbnail_side", 320)
    photo.thumbnail((side, side), Image.Resampling.LANCZOS)
    photo.save(task.output / "thumbnail.jpg", "JPEG", quality=75, exif=b"", icc_profile=icc if keep_icc else b"")
    swapped = turn in _SWAPPING
    summary: dict[str, Any] = {
        "format": _shown(form),
        "width": height if swapped else width,
        "height": width if swapped else height,
        "photo": {"width": written_size[0], "height": written_size[1]},
        "thumbnail": {"width": photo.size[0], "height": photo.size[1]},
    }
    metadata = {
        **summary,
        "name": task.name,
        "bytes": task.path.stat().st_size,
        "color": source_mode,
        "orientation_applied": turn is not None,
        "position_policy": policy,
        "exif": "unreadable" if exif is None else describe(exif, policy),
    }
    _write_json(task.output / "metadata.json", metadata)
    files = (
        ResponseFile("photo.jpg", "image/jpeg"),
        ResponseFile("thumbnail.jpg", "image/jpeg"),
        ResponseFile("metadata.json", "application/json"),
    )
    return Answer("processed", None, files, summary)


def _check_pixels(image: Image.Image, form: Taken, max_side: int, limit: int) -> None:
    """Refuse before decoding; a JPEG is from here on decoded at the smallest scale that still fills max_side."""
    width, height = image.size
    if width < 1 or height < 1:
        raise Unreadable(f"the header says {width} x {height} pixels")
    if max(width, height) > _SIDE_MAX:
        raise TooLarge(f"the photo is {width} x {height} pixels; a side may have at most {_SIDE_MAX}")
    decoded = width * height
    if form == "JPEG":
        image.draft("RGB", (max_side, max_side))
        # A progressive JPEG is held whole as coefficients, whatever scale comes out in the end.
        if not (image.info.get("progressive") or image.info.get("progression")):
            decoded = image.size[0] * image.size[1]
    if decoded > limit:
        raise TooLarge(
            f"the photo is {width} x {height} pixels, of which {decoded} would be decoded; at most {limit} may be"
        )


def _shrink(image: Image.Image, max_side: int) -> Image.Image:
    """At most max_side on the longer side. The large image is let go as soon as the small one is there."""
    if image.mode in ("1", "P"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _eight_bits(image)
    elif image.mode in ("LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=None)
    return image.copy()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Sixteen grey bits scaled to eight; a plain conversion would clip nearly all of them to white."""
    wide = image if image.mode == "I" else image.convert("I")
    return wide.point(lambda value: value * (1 / 256)).convert("L")


def _as_rgb(image: Image.Image) -> Image.Image:
    """RGB on white; a JPEG has no transparency."""
    if image.mode == "RGB":
        return image
    if image.mode == "RGBA":
        ground = Image.new("RGB", image.size, (255, 255, 255))
        ground.paste(image, mask=image.getchannel("A"))
        return ground
    return image.convert("RGB")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
