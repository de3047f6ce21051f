import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from worker.handlers.photo_shrink import on_white, shrink

# Far from black and white: there the order of the two passes shows, which is chosen by the shape of what is resized.
NOISE = Image.effect_noise((700, 900), 20)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.integers(1, 900), st.sampled_from(["RGB", "L", "CMYK", "RGBA"]))
def test_bands_are_the_same_as_the_whole_but_for_rounding(width: int, height: int, mode: str) -> None:
    image = NOISE.convert(mode)
    whole = image.resize((width, height), Image.Resampling.LANCZOS)
    assert max(ImageChops.difference(shrink(image, (width, height)), whole).tobytes()) <= 2


@pytest.mark.parametrize(
    ("mode", "comes_out"), [("P", "RGB"), ("1", "L"), ("LA", "RGBA"), ("I;16", "L"), ("RGB", "RGB"), ("L", "L")]
)
@pytest.mark.parametrize("size", [(80, 60), (700, 900)])
def test_every_mode_comes_out_as_one_that_can_be_shown(mode: str, comes_out: str, size: tuple[int, int]) -> None:
    small = shrink(NOISE.convert("I").convert("I;16") if mode == "I;16" else NOISE.convert(mode), size)
    assert (small.mode, small.size) == (comes_out, size)


def test_the_copy_outlives_the_original() -> None:
    image = Image.new("RGBA", (8, 8), (1, 2, 3, 255))
    small = shrink(image, (8, 8))
    image.close()
    assert small.getpixel((0, 0)) == (1, 2, 3, 255)


def test_clear_pixels_are_white() -> None:
    assert on_white(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert on_white(Image.new("L", (2, 2), 7)).mode == "L"
