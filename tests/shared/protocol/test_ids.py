"""What a device id and a file name may be."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.ids import (
    InvalidId,
    check_device_id,
    device_id_problem,
    file_name_problem,
    is_reserved_name,
    safe_stem,
    time_ordered_uuid,
)


@pytest.mark.parametrize("device_id", ["a", "7", "truck-7", "a.b_c-d", "x" * 64, "console", "com10", "nul0"])
def test_a_plain_lower_case_id_is_legal(device_id: str) -> None:
    assert check_device_id(device_id) == device_id


@pytest.mark.parametrize(
    "device_id",
    [
        "", "A", "Truck-7", "-a", "a-", ".a", "a.", "a..b", "x" * 65, "a/b", "a b", "ä", "a\n", "a\x00", "%61", "con",
        "nul.txt", "com1", "lpt9.a.b", "aux", "prn", "a\\b", "١",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_sentence_that_names_the_field(device_id: str) -> None:
    assert "device_id" in (device_id_problem(device_id) or "")
    with pytest.raises(InvalidId):
        check_device_id(device_id)


@given(st.text(max_size=70))
def test_a_legal_id_is_always_safe_as_a_folder_a_key_and_a_query_value(text: str) -> None:
    if device_id_problem(text) is None:
        assert text.isascii()
        assert text == text.lower()
        assert ".." not in text
        assert not set(text) & set("/\\%?&=#{}: \0\n")
        assert 1 <= len(text) <= 64


@pytest.mark.parametrize("name", ["a.csv", "Foto 1.JPG", "ä.png", "x" * 200, "what?.csv", ".hidden"])
def test_an_ordinary_file_name_is_taken(name: str) -> None:
    assert file_name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "..\\a",
        "a\x00b",
        "a\nb",
        "a\x7f",
        "x" * 201,
        "ä" * 101,
        "\udcff.csv",
    ],
)
def test_a_file_name_that_could_do_harm_is_refused(name: str) -> None:
    assert file_name_problem(name) is not None


@given(st.text(max_size=300), st.integers(8, 200))
def test_a_stem_is_always_one_bounded_component(name: str, limit: int) -> None:
    stem = safe_stem(name.encode(errors="replace").decode(), max_bytes=limit)
    assert 0 < len(stem.encode()) <= limit
    assert file_name_problem(stem) is None
    assert not is_reserved_name(f"{stem}.0190")


def test_uuids_are_version_7_and_in_time_order() -> None:
    rand = Random(1)
    made = [time_ordered_uuid(1_700_000_000 + n / 1000, rand) for n in range(100)]
    assert all(uuid.version == 7 and uuid.variant == "specified in RFC 4122" for uuid in made)
    assert made == sorted(made)
