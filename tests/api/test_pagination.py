import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pagination import InvalidCursor, PageCursor, SignedCursors, decode_cursor, encode_cursor

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
    text = base64.urlsafe_b64encode((microseconds % 2**64).to_bytes(8, "big") + UUID(int=7).bytes).decode()
    if microseconds in (0, 1):
        assert decode_cursor(text).at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    else:
        with pytest.raises(InvalidCursor):
            decode_cursor(text)


OLD, NEW = {"k1": b"1" * 32}, {"k1": b"1" * 32, "k2": b"2" * 32}
AT = datetime(2026, 11, 22, 8, 30, 0, 123456, tzinfo=UTC)
WORDS = st.text(st.characters(codec="utf-8"), max_size=200)
FILTERS = st.dictionaries(st.sampled_from(["status", "kind", "device_id"]), WORDS, max_size=3)


@given(
    WORDS,
    FILTERS,
    st.one_of(WORDS, st.datetimes(timezones=st.just(UTC))),
    st.one_of(st.uuids(), st.integers(0, 2**63 - 1)),
)
def test_a_signed_cursor_comes_back_whatever_its_key_is(
    sort: str, filters: dict[str, str], first: Any, second: Any
) -> None:
    cursors = SignedCursors(NEW)
    text = cursors.sign(sort, filters, (first, second))
    assert text.isascii()
    assert cursors.read(text, sort, dict(reversed(filters.items())), (type(first), type(second))) == (first, second)


@given(FILTERS, FILTERS)
def test_a_signed_cursor_is_good_for_its_filters_only(filters: dict[str, str], others: dict[str, str]) -> None:
    cursors = SignedCursors(NEW)
    text = cursors.sign("jobs", filters, (AT, UUID(int=1)))
    if filters == others:
        assert cursors.read(text, "jobs", others, (datetime, UUID)) == (AT, UUID(int=1))
    else:
        with pytest.raises(InvalidCursor, match="another list, filter or sort"):
            cursors.read(text, "jobs", others, (datetime, UUID))


@given(st.data())
def test_no_change_of_a_signed_cursor_goes_unseen(data: st.DataObject) -> None:
    cursors = SignedCursors(NEW)
    raw = bytearray(base64.urlsafe_b64decode(cursors.sign("jobs", {"kind": "table"}, (AT, UUID(int=1))) + "=="))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    changed = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    with pytest.raises(InvalidCursor, match="unchanged"):
        cursors.read(changed, "jobs", {"kind": "table"}, (datetime, UUID))


@given(st.text(max_size=80))
def test_any_other_text_is_no_signed_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor):
        SignedCursors(NEW).read(text, "jobs", {}, (datetime, UUID))


def test_a_cursor_outlives_the_key_that_came_after_its_own_and_not_its_own() -> None:
    text = SignedCursors(OLD).sign("jobs", {}, (AT, 7))
    assert SignedCursors(NEW).read(text, "jobs", {}, (datetime, int)) == (AT, 7)
    newer = SignedCursors(NEW).sign("jobs", {}, (AT, 7))
    with pytest.raises(InvalidCursor):
        SignedCursors(OLD).read(newer, "jobs", {}, (datetime, int))
    assert "1" * 32 not in repr(SignedCursors(OLD))
    with pytest.raises(ValueError, match="no key"):
        SignedCursors({})


def test_a_cursor_of_another_shape_or_length_is_refused() -> None:
    cursors = SignedCursors(OLD)
    text = cursors.sign("jobs", {}, ("name", UUID(int=1)))
    with pytest.raises(InvalidCursor):
        cursors.read(text, "jobs", {}, (datetime, UUID))
    with pytest.raises(InvalidCursor):
        cursors.read("A" * 5000, "jobs", {}, (datetime, UUID))
    with pytest.raises(InvalidCursor):
        cursors.read(cursors.sign("jobs", {}, (AT, UUID(int=1), 3)), "jobs", {}, (datetime, UUID))


def test_a_secret_added_while_running_signs_and_one_retired_is_over() -> None:
    secrets = dict(OLD)
    cursors = SignedCursors(secrets)
    text = cursors.sign("jobs", {}, (AT, 7))
    secrets.clear()
    secrets["other"] = b"o" * 32
    with pytest.raises(InvalidCursor):
        cursors.read(text, "jobs", {}, (datetime, int))
    text = cursors.sign("jobs", {}, (AT, 7))
    assert SignedCursors(dict(secrets)).read(text, "jobs", {}, (datetime, int)) == (AT, 7)
