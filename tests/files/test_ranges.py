import pytest
from hypothesis import given
from hypothesis import strategies as st

from files.ranges import Part, Unsatisfiable, part_of


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", Part(0, 0)),
        ("bytes=0-", Part(0, 99)),
        ("bytes=10-19", Part(10, 19)),
        ("bytes=90-1000", Part(90, 99)),
        ("bytes=99-99", Part(99, 99)),
        ("bytes=-1", Part(99, 99)),
        ("bytes=-1000", Part(0, 99)),
        ("Bytes= 5-6 ", Part(5, 6)),
    ],
)
def test_one_range_is_a_part(header: str, part: Part) -> None:
    assert part_of(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=9999999999999999999-"])
def test_a_range_with_nothing_in_it_cannot_be_satisfied(header: str) -> None:
    assert part_of(header, 100) == Unsatisfiable()


IGNORED = [
    *("", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=0x1-2"),
    *("bytes=+1-2", "bytes=1-2-3", "bytes=٣-٤", "bytes=" + "1" * 20 + "-"),
]


@pytest.mark.parametrize("header", IGNORED)
def test_what_is_malformed_or_several_means_the_whole(header: str) -> None:
    assert part_of(header, 100) is None


def test_nothing_of_an_empty_file_can_be_asked_for() -> None:
    assert part_of("bytes=0-", 0) == Unsatisfiable()
    assert part_of("bytes=-5", 0) == Unsatisfiable()


@given(header=st.one_of(st.text(), st.from_regex(r"bytes=\d{0,20}-\d{0,20}")), size=st.integers(0, 2**62))
def test_a_part_always_lies_inside_the_file(header: str, size: int) -> None:
    part = part_of(header, size)
    if isinstance(part, Part):
        assert 0 <= part.first <= part.last < size
        assert part.length == part.last - part.first + 1
