import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol import strict_json

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_what_json_means_is_what_is_read(value: object) -> None:
    assert strict_json.decode(json.dumps(value).encode(), max_depth=64) == value


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        (b'{"seq":1,"seq":2}', "duplicate_key"),
        (b'{"a":[{"b":1,"b":1}]}', "duplicate_key"),
        (b'{"a":NaN}', "not_json"),
        (b"[Infinity]", "not_json"),
        (b"[1e999]", "not_json"),
        (b"[-1e999]", "not_json"),
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"{'a':1}", "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b'"\xff"', "not_utf8"),
        ('{"a":1}'.encode("utf-16-le"), "not_json"),
        (b"[" * 17 + b"]" * 17, "too_deep"),
        (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
        (b"1" * 5000, "not_json"),
    ],
)
def test_what_can_mean_two_things_or_none_is_refused(text: bytes, flaw: str) -> None:
    with pytest.raises(strict_json.NotStrictJson) as caught:
        strict_json.decode(text, max_depth=16)
    assert caught.value.flaw == flaw


def test_the_depth_that_is_allowed_is_allowed() -> None:
    assert strict_json.decode("[" * 16 + "]" * 16, max_depth=16)
    assert strict_json.decode("7", max_depth=0) == 7


def test_the_error_names_the_repeated_key_but_not_all_of_a_long_one() -> None:
    key = "k" * 500
    with pytest.raises(strict_json.NotStrictJson, match="has the key 'kkkkk") as caught:
        strict_json.decode(f'{{"{key}":1,"{key}":2}}', max_depth=4)
    assert len(str(caught.value)) < 100
