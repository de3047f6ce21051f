import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.errors import BadPath
from shared.cloud.paths import split_folder, split_path


def test_a_path_is_split_into_its_components() -> None:
    assert split_path("Requests/truck-7/Grüße 1.jpg") == ("Requests", "truck-7", "Grüße 1.jpg")
    assert split_folder("") == ()
    assert split_folder("Requests") == ("Requests",)


NO_PATHS = [
    *("", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\\b", "a\0b", "a\nb", "a/\x7f"),
    *("x" * 201, "é" * 101, "a/\udcff", "/".join("a" * 17)),
]


@pytest.mark.parametrize("path", NO_PATHS)
def test_what_is_no_path_inside_a_store_is_refused(path: str) -> None:
    with pytest.raises(BadPath):
        split_path(path)


@given(st.text())
def test_whatever_is_accepted_has_no_component_that_leads_elsewhere(path: str) -> None:
    try:
        parts = split_path(path)
    except BadPath:
        return
    assert "/".join(parts) == path
    assert not {"", ".", ".."} & set(parts)
    assert "\0" not in path
