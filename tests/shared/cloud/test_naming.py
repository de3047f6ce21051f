import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.naming import name_key, version_name
from shared.protocol.ids import file_name_problem


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("photo.jpg", "photo (v2).jpg"),
        ("photo", "photo (v2)"),
        (".hidden", ".hidden (v2)"),
        ("..x", "..x (v2)"),
        ("data.tar.gz", "data.tar (v2).gz"),
        ("ends.", "ends. (v2)"),
        ("Dr. Who came by", "Dr. Who came by (v2)"),
        ("Straße 1.JPG", "Straße 1 (v2).JPG"),
    ],
)
def test_the_counter_stands_before_the_extension(name: str, second: str) -> None:
    assert version_name(name, 2) == second
    assert version_name(name, 1) == name


def test_a_version_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="begin at 1"):
        version_name("a", 0)


@given(st.text(min_size=1, max_size=120), st.integers(2, 100_000))
def test_every_version_of_a_legal_name_is_legal_and_another_name(name: str, version: int) -> None:
    if file_name_problem(name) is not None:
        return
    made = version_name(name, version)
    assert file_name_problem(made) is None
    assert f"(v{version})" in made
    assert name_key(made) != name_key(version_name(name, version + 1))


def test_names_that_some_store_takes_for_one_have_one_key() -> None:
    assert name_key("Photo.JPG") == name_key("photo.jpg")
    assert name_key("Cafe\u0301") == name_key("caf\u00e9")
    assert name_key("a.jpg") != name_key("b.jpg")


@given(st.text(max_size=50))
def test_a_key_is_its_own_key(name: str) -> None:
    assert name_key(name_key(name)) == name_key(name)
