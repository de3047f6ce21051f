"""Paths and where they belong."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.places import PATH_MAX_BYTES, Place, Refused, ignored, locate, shown


def test_a_file_of_a_device_is_placed() -> None:
    assert locate("Requests/truck-7/photo.jpg") == Place(
        "Requests/truck-7/photo.jpg", "request", "truck-7", "photo.jpg", None
    )


def test_the_outermost_folder_below_the_device_is_named() -> None:
    place = locate("Responses/truck-7/a.0190/b/thumb.jpg")
    assert isinstance(place, Place)
    assert (place.area, place.name, place.top_folder) == ("response", "thumb.jpg", "Responses/truck-7/a.0190")


def test_the_folder_of_a_device_has_no_name() -> None:
    place = locate("Requests/truck-7")
    assert isinstance(place, Place)
    assert place.name == ""


@pytest.mark.parametrize(
    "path", ["other/truck-7/a", "requests/truck-7/a", "Requests/truck-7/.hidden", "Requests/.x/a", "a", ""]
)
def test_what_is_hidden_or_elsewhere_is_nobodys_business(path: str) -> None:
    assert locate(path) is None


@pytest.mark.parametrize("name", [".a", "a.tmp", "a.PART", "a~", ".~lock"])
def test_unfinished_names_are_ignored(name: str) -> None:
    assert ignored(name)
    assert locate(f"Requests/truck-7/{name}") is None
    assert locate(f"Requests/truck-7/{name}/inside.csv") is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("Requests/Truck-7/a", "device_id"),
        ("Requests/con/a", "device_id"),
        ("Requests/a..b/a", "device_id"),
        ("Requests//a", "device_id"),
        ("Requests/truck-7/a\nb", "file_name"),
        ("Requests/truck-7/a\x00b", "file_name"),
        ("Requests/truck-7/\x9b31m", "file_name"),
        ("Requests/truck-7/a\\b", "file_name"),
        ("Requests/truck-7/" + "n" * 300, "file_name"),
        ("Requests/truck-7/" + os.fsdecode(b"caf\xe9.jpg"), "file_name"),
        ("Requests/truck-7/" + "/".join("abcdefghi"), "depth"),
        ("Requests/truck-7/" + "/".join(["n" * 190] * 6), "length"),
        ("Requests", "misplaced"),
    ],
)
def test_each_bad_path_is_refused_with_its_reason(path: str, reason: str) -> None:
    refused = locate(path)
    assert isinstance(refused, Refused)
    assert refused.reason == reason
    assert refused.detail


@given(st.text(max_size=60))
def test_any_name_is_placed_safely_or_not_at_all(name: str) -> None:
    place = locate(f"Requests/truck-7/{name}")
    if isinstance(place, Place):
        encoded = place.path.encode()
        assert b"\0" not in encoded
        assert b"\n" not in encoded
        assert len(encoded) <= PATH_MAX_BYTES
        assert ".." not in place.path.split("/")


@given(st.binary(min_size=1, max_size=400))
def test_any_path_is_shown_on_one_bounded_line(raw: bytes) -> None:
    line = shown(os.fsdecode(raw))
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= 301
