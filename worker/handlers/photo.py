"""Photos: JPEG, PNG, WebP, GIF or HEIC in; an upright sRGB JPEG of at most 2,048 px, smaller ones and metadata out.

What decoding would cost is read from the header and held against bounds before anything is decoded (photo_guard.py),
and a large JPEG is decoded at half, a quarter or an eighth. One large picture is held at a time and made small in
bands, so that memory after the thousandth photo is what it was after the tenth.
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
from worker.handlers.exif import describe, has_position, read_exif, written_exif
from worker.handlers.image_formats import RAW_EXTENSIONS, Taken, name_of_unsupported, shown_format, taken_format
from worker.handlers.photo_colors import as_srgb
from worker.handlers.photo_guard import check_memory, check_pixels, memory_of, memory_of_image, target_size
from worker.handlers.photo_options import PhotoOptions, photo_options
from worker.handlers.photo_outputs import PHOTO, THUMBNAIL, placeholder, write_sizes
from worker.handlers.photo_shrink import on_white, shrink
from worker.handlers.webp_header import webp_size

__all__ = ["PhotoHandler"]

_HEAD_BYTES: Final = 4096
_SEND: Final = "send JPEG, PNG, WebP or HEIC"
_GREY: Final = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "F"})

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
    """Options: photo.max_side, .thumbnail_side, .sizes, .quality, .progressive, .placeholder, .max_pixels, .max_bytes
    and .position (keep or strip); photo_options.py has their defaults."""

    kind = "photo"
    extensions = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".heic", ".heif", ".hif"})
    also_answers = frozenset(RAW_EXTENSIONS)

    def recognises(self, head: bytes) -> bool:
        """A signature of a format that is taken."""
        return taken_format(head, "") is not None

    def run(self, task: Task) -> Answer:
        """photo.jpg, thumbnail.jpg, further sizes and metadata.json; or a refusal that names what is wrong."""
        options = photo_options(task.options)
        with task.path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        form = _check_format(head, task, options)
        if form == "WEBP":
            _check_webp(head, options)
        with _reading(form), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damage that the decoders work round is not for the log
            with Image.open(task.path, formats=(form,)) as image:
                return _process(image, form, task, options)


def _check_format(head: bytes, task: Task, options: PhotoOptions) -> Taken:
    if not head:
        raise Unreadable("the file is empty")
    form = taken_format(head, task.name)
    if form is None:
        if known := name_of_unsupported(head, task.name):
            raise Unsupported(f"{known} is not supported; {_SEND}")
        raise Unreadable(f"the file is not an image: it begins like no known image format; {_SEND}")
    size = task.path.stat().st_size
    if size > options.max_bytes:
        raise TooLarge(f"the photo has {size} bytes; at most {options.max_bytes} are taken")
    return form


def _check_webp(head: bytes, options: PhotoOptions) -> None:
    """Its decoder takes the memory as soon as a file is opened; those of the others wait for `load`."""
    size = webp_size(head)
    if size is None:
        raise Unreadable("the file begins like WebP but its header is damaged")
    check_pixels(size, options.max_pixels)
    check_memory("WEBP", memory_of("WEBP", size) or 0.0)


@contextmanager
def _reading(form: Taken) -> Iterator[None]:
    """What a damaged file makes the decoders raise, as sentences without paths of this machine."""
    try:
        yield
    except MemoryError:
        raise TooLarge("decoding the photo needs more memory than a handler may use; send it smaller") from None
    except UnidentifiedImageError:
        raise Unreadable(f"the file begins like {shown_format(form)} but its header is damaged") from None
    except (OSError, EOFError) as error:
        raise Unreadable(f"the {shown_format(form)} data is damaged or cut short: {_reason(error)}") from None
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
        raise Unreadable(f"the {shown_format(form)} data is damaged: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        raise error  # the disk, not the photo: this attempt failed
    return "".join(c for c in text if c.isprintable())[:160] or type(error).__name__


def _process(image: Image.Image, form: Taken, task: Task, options: PhotoOptions) -> Answer:
    declared = image.size
    check_pixels(declared, options.max_pixels)
    size = target_size(declared, options.max_side)
    if form == "JPEG":
        image.draft("RGB", size)  # from here on the smallest scale that still fills it
    check_memory(form, memory_of_image(image, form, declared))
    pictures = _pictures(image, form)
    exif = read_exif(image)
    orientation = exif.get(Base.Orientation) if exif is not None else None
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    icc, source_mode = image.info.get("icc_profile"), image.mode
    image.load()
    small = shrink(image, size)
    image.close()
    upright = on_white(small if turn is None else small.transpose(turn))
    photo, color = as_srgb(upright, icc, grey=source_mode in _GREY)
    written = write_sizes(photo, task.output, options, written_exif(exif, options.position))
    sizes = {name: {"width": width, "height": height} for name, (width, height) in written.items()}
    swapped = turn in _SWAPPING
    summary: dict[str, Any] = {
        "format": shown_format(form),
        "width": declared[1] if swapped else declared[0],
        "height": declared[0] if swapped else declared[1],
        "photo": sizes.pop(PHOTO),
        "thumbnail": sizes.pop(THUMBNAIL),
    }
    if sizes:
        summary["sizes"] = [{"name": name, **of} for name, of in sizes.items()]
    if options.placeholder:
        summary["placeholder"] = placeholder(photo)
    if color is not None:
        summary["color_profile"] = color.described()
    if exif is not None and has_position(exif):
        summary["position"] = "kept" if options.position == "keep" else "stripped"
    if pictures > 1:
        summary["pictures"] = {"count": pictures, "shown": 1, "animated": form != "HEIF"}
    metadata = {
        **summary,
        "name": task.name,
        "bytes": task.path.stat().st_size,
        "color": source_mode,
        "orientation_applied": turn is not None,
        "position_policy": options.position,
        "exif": "unreadable" if exif is None else describe(exif, options.position),
    }
    _write_json(task.output / "metadata.json", metadata)
    files = [ResponseFile(name, "image/jpeg") for name in written]
    files.append(ResponseFile("metadata.json", "application/json"))
    return Answer("processed", _said(pictures, form), tuple(files), summary)


def _pictures(image: Image.Image, form: Taken) -> int:
    """How many there are in the file. A JPEG's others are its own previews and depth maps."""
    if form == "JPEG":
        return 1
    try:
        return max(1, int(getattr(image, "n_frames", 1)))
    except (OSError, EOFError, SyntaxError, ValueError):
        return 1  # what follows the first may be damaged; the first is what is shown


def _said(pictures: int, form: Taken) -> str | None:
    if pictures < 2:
        return None
    if form == "HEIF":
        return f"the file holds {pictures} pictures; the response shows the main one"
    return f"the file is an animation of {pictures} frames; the response shows the first"


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
