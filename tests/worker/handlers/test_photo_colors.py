import pytest
from PIL import Image, ImageCms

from tests.worker.handlers.profiles import P3, SRGB, grey_profile, ink_profile, rgb_profile
from worker.handlers.photo_colors import ColorNote, as_srgb


def pixel(image: Image.Image) -> tuple[int, ...]:
    found = image.getpixel((1, 1))
    assert isinstance(found, tuple)
    return found


def test_colours_of_a_wide_profile_are_converted() -> None:
    image = Image.new("RGB", (4, 4), (230, 90, 60))
    converted, note = as_srgb(image, rgb_profile("Display P3", P3), grey=False)
    red, green, blue = pixel(converted)
    assert note == ColorNote("Display P3", "converted")
    assert red > 240  # the same colour needs more of sRGB's weaker red
    assert green < 85
    assert blue < 55


def test_grey_stays_grey_through_a_profile() -> None:
    converted, _ = as_srgb(Image.new("RGB", (4, 4), (128, 128, 128)), rgb_profile("Display P3", P3), grey=False)
    assert max(pixel(converted)) - min(pixel(converted)) <= 2


def test_a_profile_that_is_srgb_changes_no_pixel() -> None:
    image = Image.effect_noise((32, 32), 90).convert("RGB")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same, note = as_srgb(image, srgb, grey=False)
    assert same is image
    assert note is not None
    assert note.done == "same"


def test_primaries_of_srgb_with_another_curve_are_not_taken_for_srgb() -> None:
    _, note = as_srgb(Image.new("RGB", (4, 4)), rgb_profile("dark", SRGB, 1.0), grey=False)
    assert note == ColorNote("dark", "converted")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_grey_profile_is_followed(mode: str) -> None:
    image = Image.new(mode, (4, 4), 128 if mode == "L" else (128, 128, 128))
    converted, note = as_srgb(image, grey_profile("linear", 1.0), grey=True)
    assert note == ColorNote("linear", "converted")
    assert converted.mode == "RGB"
    assert all(abs(value - 188) <= 2 for value in pixel(converted))


def test_a_printers_profile_is_followed() -> None:
    converted, note = as_srgb(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), ink_profile("press", 50), grey=False)
    assert note == ColorNote("press", "converted")
    assert all(abs(value - 119) <= 3 for value in pixel(converted))


@pytest.mark.parametrize(
    "icc",
    [b"garbage", b"\0" * 200, rgb_profile("cut", P3)[:180], ink_profile("press", 50), b"\0" * (5 * 1024 * 1024)],
    ids=["garbage", "zeros", "cut", "of ink", "huge"],
)
def test_a_profile_that_does_not_fit_is_ignored_and_said(icc: bytes) -> None:
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    same, note = as_srgb(image, icc, grey=False)
    assert pixel(same) == (10, 20, 30)
    assert note is not None
    assert note.done == "ignored"


def test_without_a_profile_nothing_is_said() -> None:
    converted, note = as_srgb(Image.new("CMYK", (4, 4)), None, grey=False)
    assert (converted.mode, note) == ("RGB", None)
