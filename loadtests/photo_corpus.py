"""Made photos of every kind, of chosen sizes, with the detail and the blocks that real ones have."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pillow_heif
from PIL import Image
from PIL.ExifTags import IFD, Base

__all__ = ["KINDS", "make_corpus", "make_photo"]

# What phones and cameras send: mostly baseline JPEG. Formats that are costly to decode are kept to sizes they come in.
KINDS: Final = ("jpeg", "jpeg", "jpeg", "progressive", "jpeg", "jpeg", "png", "jpeg", "jpeg", "webp", "jpeg", "heic")
_LARGEST_MEGAPIXELS: Final = {"png": 50.0, "webp": 16.0, "heic": 24.0}
_SHAPES: Final = ((4, 3), (3, 4), (3, 2), (16, 9))


def make_corpus(folder: Path, count: int, megapixels: tuple[float, float], kinds: Sequence[str] = KINDS) -> list[Path]:
    """So many photos, from the first number of megapixels to the second in even steps, kinds in turn."""
    rand, (least, most) = random.Random(1), megapixels
    made = []
    for number in range(count):
        # Sizes in an order of their own, so that every kind gets small ones and large ones.
        step = number * 5 % count if count % 5 else number
        wanted = least + (most - least) * step / max(1, count - 1)
        kind = kinds[number % len(kinds)]
        made.append(make_photo(folder, number, kind, min(wanted, _LARGEST_MEGAPIXELS.get(kind, wanted)), rand))
    return made


def make_photo(folder: Path, number: int, kind: str, megapixels: float, rand: random.Random) -> Path:
    """One photo; every third lies on its side by its Exif block."""
    across, down = _SHAPES[number % len(_SHAPES)]
    unit = (megapixels * 1e6 / (across * down)) ** 0.5
    width, height = max(16, round(across * unit)), max(16, round(down * unit))
    coarse = [Image.effect_noise((max(1, width // 6), max(1, height // 6)), rand.uniform(20, 60)) for _ in "RGB"]
    image = Image.merge("RGB", coarse).resize((width, height), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "Acme", "C-1"
    exif[Base.Orientation] = 6 if number % 3 == 0 else 1
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = "2026:05:01 12:30:00"
    path = folder / f"{number:03}-{width * height / 1e6:.0f}mp.{'jpg' if kind in ('jpeg', 'progressive') else kind}"
    if kind == "heic":
        pillow_heif.from_pillow(image).save(path, quality=50, exif=exif.tobytes(), enc_params={"preset": "ultrafast"})
    elif kind == "webp":
        image.save(path, quality=80, method=0, exif=exif)
    elif kind == "png":
        image.save(path, compress_level=1, exif=exif)
    else:
        image.save(path, "JPEG", quality=90, progressive=kind == "progressive", exif=exif)
    return path
