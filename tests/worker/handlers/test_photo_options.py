from typing import Any

import pytest

from worker.handlers.photo_options import PhotoOptions, photo_options, sizes_problem


def test_without_options_the_defaults_hold() -> None:
    assert photo_options({}) == PhotoOptions()
    assert photo_options({"photo.quality": "high", "photo.progressive": 1, "photo.max_side": True}) == PhotoOptions()


def test_options_are_taken_within_their_bounds() -> None:
    given = photo_options(
        {"photo.quality": 100, "photo.max_side": 1, "photo.progressive": False, "photo.position": "keep"}
    )
    assert (given.quality, given.max_side, given.progressive, given.position) == (95, 16, False, "keep")


@pytest.mark.parametrize(
    ("text", "sides"), [("", ()), ("640", (640,)), (640, (640,)), ("320, 1280,640,640", (1280, 640, 320))]
)
def test_sizes_are_read_largest_first_and_once(text: Any, sides: tuple[int, ...]) -> None:
    assert photo_options({"photo.sizes": text}).sizes == sides
    assert sizes_problem({"photo.sizes": text}) is None


@pytest.mark.parametrize(
    "text", ["big", "640;320", "-1", "9000", "8", 1.5, True, "100,101,102,103,104,105,106,107,108"]
)
def test_wrong_sizes_are_named(text: Any) -> None:
    problem = sizes_problem({"photo.sizes": text})
    assert problem is not None
    assert problem.startswith("photo.sizes is")
