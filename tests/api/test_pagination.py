from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pagination import InvalidCursor, PageCursor, decode_cursor, encode_cursor

CURSORS = st.builds(
    PageCursor,
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)),
    st.uuids(),
)


@given(CURSORS)
def test_a_cursor_comes_back_to_the_microsecond(cursor: PageCursor) -> None:
    text = encode_cursor(cursor)
    assert decode_cursor(text) == cursor
    assert len(text) == 32
    assert text.isascii()


@given(st.text(max_size=40))
def test_any_other_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = decode_cursor(text)
    except InvalidCursor:
        return
    assert cursor.at.tzinfo is UTC


@pytest.mark.parametrize("microseconds", [-1, 0, 1, 10**18])
def test_a_time_beyond_the_calendar_is_refused(microseconds: int) -> None:
    from base64 import urlsafe_b64encode

    text = urlsafe_b64encode((microseconds % 2**64).to_bytes(8, "big") + UUID(int=7).bytes).decode()
    if microseconds in (0, 1):
        assert decode_cursor(text).at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    else:
        with pytest.raises(InvalidCursor):
            decode_cursor(text)
