from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from worker.handlers.contract import TooLarge, Unreadable
from worker.handlers.photo_guard import check_memory, check_pixels, memory_of_image, target_size


@pytest.mark.parametrize(("size", "words"), [((65_501, 1), "a side"), ((10_001, 10_000), r"100\.0 megapixels")])
def test_too_many_pixels_are_refused(size: tuple[int, int], words: str) -> None:
    with pytest.raises(TooLarge, match=words):
        check_pixels(size, 100_000_000)


def test_a_hundred_megapixels_are_taken_and_none_is_a_damaged_header() -> None:
    check_pixels((10_000, 10_000), 100_000_000)
    with pytest.raises(Unreadable):
        check_pixels((0, 10), 100_000_000)


def test_memory_that_cannot_be_had_is_refused_with_both_figures() -> None:
    check_memory("HEIF", 400e6)
    with pytest.raises(TooLarge, match=r"decoding this HEIC takes 430 MB of memory and a handler may use 500 MB"):
        check_memory("HEIF", 430e6)


@pytest.mark.parametrize(
    ("suffix", "mode", "options", "per_pixel"),
    [
        ("jpg", "RGB", {}, 4),
        ("jpg", "L", {}, 1),
        ("jpg", "RGB", {"progressive": True, "subsampling": 2}, 7),
        ("jpg", "RGB", {"progressive": True, "subsampling": 0}, 10),
        ("png", "RGB", {}, 4),
        ("png", "P", {}, 1),
        ("gif", "P", {}, 9),
    ],
)
def test_what_decoding_takes_depends_on_the_format(
    tmp_path: Path, suffix: str, mode: str, options: dict[str, Any], per_pixel: float
) -> None:
    source = tmp_path / f"a.{suffix}"
    Image.new(mode, (100, 100)).save(source, **options)
    with Image.open(source) as image:
        form: Any = {"jpg": "JPEG"}.get(suffix, suffix.upper())
        assert memory_of_image(image, form, image.size) == per_pixel * 10_000


@pytest.mark.parametrize(
    ("size", "small"),
    [((4000, 3000), (2048, 1536)), ((3000, 4000), (1536, 2048)), ((65_000, 3), (2048, 1)), ((20, 10), (20, 10))],
)
def test_the_shape_stays(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert target_size(size, 2048) == small
