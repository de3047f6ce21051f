"""What anybody would write: a loop with Pillow alone over the paths on standard input; says what it cost.

Two manners. `plain` is the shortest that is right (upright, RGB, two sizes, Pillow's own settings). `same` is tuned as
our handler is: the JPEG decoded at the smallest scale that does, the photo progressive and optimised.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Final

import pillow_heif
from PIL import Image, ImageOps

__all__ = ["MANNERS", "main", "one"]

MANNERS: Final = ("plain", "same")
_SIDE: Final = 2048
_THUMBNAIL: Final = 320


def one(path: Path, folder: Path, manner: str) -> None:
    """photo.jpg and thumbnail.jpg of one file."""
    with Image.open(path) as opened:
        if manner == "same":
            opened.draft("RGB", (_SIDE, _SIDE))
        opened.thumbnail((_SIDE, _SIDE), reducing_gap=2.0 if manner == "plain" else None)
        image = ImageOps.exif_transpose(opened).convert("RGB")
    better = manner == "same"
    image.save(folder / "photo.jpg", quality=85, progressive=better, optimize=better)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    image.save(folder / "thumbnail.jpg", quality=75)


def main(arguments: list[str] | None = None) -> int:
    """Arguments: manner, folder for what is written. Prints seconds and CPU seconds as JSON."""
    manner, folder = arguments or sys.argv[1:]
    Image.MAX_IMAGE_PIXELS = None
    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    paths = [Path(line.rstrip("\n")) for line in sys.stdin]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    for path in paths:
        one(path, Path(folder), manner)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": time.monotonic() - began, "cpu_s": cpu, "photos": len(paths)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
