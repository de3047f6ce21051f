import re
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.disposition import attachment

_WHOLE = re.compile(
    r"attachment; filename=\"[ !#-.0-9:<-\[\]^-~]+\"(; filename\*=UTF-8''[A-Za-z0-9!#$&+^`|_.~%-]+)?", re.ASCII
)


def test_a_plain_name_is_given_as_it_is() -> None:
    assert attachment("thumb.jpg") == 'attachment; filename="thumb.jpg"'


def test_any_other_name_is_given_twice() -> None:
    assert attachment("Grüße 1.csv") == "attachment; filename=\"Gr__e 1.csv\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%201.csv"
    assert attachment("") == "attachment; filename=\"file\"; filename*=UTF-8''"


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\r\nSet-Cookie: x=y", "a;b", "a%41b", "../x", "a\0b", "\udcff"])
def test_no_name_gets_out_of_its_quotes_or_its_line(name: str) -> None:
    value = attachment(name)
    assert _WHOLE.fullmatch(value), value


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_every_name_comes_back_to_a_client_that_knows_the_standard(name: str) -> None:
    value = attachment(name)
    assert _WHOLE.fullmatch(value), value
    assert value.isascii()
    if "filename*=" in value:
        assert unquote(value.partition("filename*=UTF-8''")[2]) == name
    else:
        parsed = Message()
        parsed["Content-Disposition"] = value
        assert parsed.get_filename() == name
