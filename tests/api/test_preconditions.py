import pytest

from api.preconditions import etag_of, is_known, seen_versions
from api.problems import Problem


def headers(name: str, *values: str) -> dict[bytes, list[bytes]]:
    return {name.encode(): [value.encode("latin-1") for value in values]}


@pytest.mark.parametrize(
    ("values", "versions"),
    [
        (['"3"'], {3}),
        (['"3", "5"'], {3, 5}),
        (['"3"', '"5"'], {3, 5}),
        ([' , "3",,"4" '], {3, 4}),
        (['W/"3", "5"'], {5}),
        (['W/"3"'], set()),
        (['"03"'], set()),
        (['"0"'], set()),
        (['"abc,3"'], set()),
        (['"2147483647", "2147483648"'], {2147483647}),
        (['""'], set()),
    ],
)
def test_if_match_names_versions_by_strong_tags(values: list[str], versions: set[int]) -> None:
    assert seen_versions(headers("if-match", *values)) == frozenset(versions)


def test_a_star_is_any_version() -> None:
    assert seen_versions(headers("if-match", " * ")) is None


def test_a_change_without_a_condition_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        seen_versions({})
    assert (caught.value.slug, caught.value.kind.status) == ("precondition-required", 428)


@pytest.mark.parametrize("value", ["3", '"3', '"3" "4"', 'w/"3"', '*, "3"', "", '"3"x', '"\x7f"'])
def test_a_condition_that_cannot_be_read_is_refused_and_named(value: str) -> None:
    with pytest.raises(Problem) as caught:
        seen_versions(headers("if-match", value))
    assert (caught.value.slug, caught.value.members["field"]) == ("invalid-request", "If-Match")


@pytest.mark.parametrize(
    ("value", "known"),
    [
        ('"3"', True),
        ('W/"3"', True),
        ('"2", W/"3"', True),
        ("*", True),
        ('"33"', False),
        ('"2"', False),
        ("3", False),
        ("nonsense", False),
    ],
)
def test_if_none_match_compares_weakly_and_what_is_not_a_tag_knows_nothing(value: str, known: bool) -> None:
    assert is_known(headers("if-none-match", value), etag_of(3)) is known
    assert not is_known({}, etag_of(3))
