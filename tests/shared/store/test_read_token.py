import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.store.read_token import PRIMARY_ONLY, InvalidToken, ReadToken, lsn_of, parse_token


@given(st.integers(1, 2**31 - 1), st.integers(0, 2**64 - 1))
def test_a_token_survives_the_way_to_the_client_and_back(timeline: int, lsn: int) -> None:
    token = ReadToken(timeline, lsn)
    assert parse_token(str(token)) == token
    assert str(token).isascii()
    assert len(str(token)) <= 28


def test_the_primarys_token_has_a_word_of_its_own() -> None:
    assert parse_token(str(PRIMARY_ONLY)) == PRIMARY_ONLY
    assert not PRIMARY_ONLY.is_reached_by(99, 2**63)


NEVER_GIVEN = ["", "1", "0:0/1", "1:0/", "1:0/G", "1:123456789/1", "-1:0/1", "99999999999:0/1", "2147483648:0/1"]


@pytest.mark.parametrize("text", [*NEVER_GIVEN, "Primary", "1:0/1 ", "1:0/1\n"])
def test_what_was_never_given_out_is_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        parse_token(text)


def test_a_copy_holds_a_write_when_it_is_as_far_on_that_timeline_or_a_later_one() -> None:
    token = ReadToken(2, lsn_of("0/500"))
    assert token.is_reached_by(2, 0x500)
    assert token.is_reached_by(3, 0x501)
    assert not token.is_reached_by(2, 0x4FF)
    assert not token.is_reached_by(1, 0x900), "it went its own way before the write"
    assert lsn_of("16/B374D848") == 0x16B374D848
