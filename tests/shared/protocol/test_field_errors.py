"""What is wrong with a value from outside is said of its member, whatever the value."""

from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.field_errors import convert, field_of


class Part(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(max_length=3)] = ""
    number: int = 0


class Whole(msgspec.Struct):
    part: Part
    parts: list[Part] = []
    more: dict[str, int] = {}


HALF = "\ud800"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"part": {"number": "1"}}, "part.number"),
        ({"part": {"none": 1}}, "part.none"),
        ({}, "part"),
        ([], ""),
    ],
)
def test_the_member_is_named(value: Any, field: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        convert(value, Whole)
    assert field_of(caught.value)[0] == field


@pytest.mark.parametrize(
    "value", [{"part": HALF}, {"part": {HALF: 1}}, {"part": {"number": HALF}}, {"part": {}, "parts": [HALF]}, HALF]
)
def test_half_a_character_where_another_value_belongs_is_an_error_like_others(value: Any) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        convert(value, Whole)
    assert "half a character" in field_of(caught.value)[1]


# Halves of characters are what `st.text` leaves out unless it is asked for them.
texts = st.text(st.characters(exclude_categories=()), max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["part", "parts", "more", "name", "number"]) | texts, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_any_value_is_taken_or_refused_in_words_that_can_be_sent(value: Any) -> None:
    try:
        convert(value, Whole)
    except msgspec.ValidationError as error:
        field, detail = field_of(error)
        (field + detail).encode()
