"""Cookies that say what a token said, and nothing that anybody else made."""

import base64

import pytest

from api.dashboard.sessions import InvalidSession, Sessions
from shared.tokens import Claims

KEYS = {"old": b"o" * 32, "new": b"n" * 32}
CLAIMS = Claims("olga", frozenset({"operator", "service"}), None, 10_000.0, "tokens-1", "jti-1", 900.0)


def sessions(keys: dict[str, bytes] | None = None) -> Sessions:
    return Sessions(keys or KEYS, lifetime_s=100, longest_s=1000)


def test_a_cookie_is_read_back_as_an_operator_and_nothing_more() -> None:
    made = sessions().begin(CLAIMS, "nonce", now=1000)
    read = sessions().read(sessions().cookie(made), now=1099)
    assert read == made
    assert read.claims.scopes == {"operator"}
    assert (read.claims.subject, read.claims.token_id, read.claims.issued_at) == ("olga", "jti-1", 900.0)


def test_a_session_is_over_after_its_time_or_with_its_token() -> None:
    made = sessions().begin(CLAIMS, "nonce", now=1000)
    with pytest.raises(InvalidSession, match="over"):
        sessions().read(sessions().cookie(made), now=1100)
    late = sessions().begin(CLAIMS, "nonce", now=9_950)
    assert late.expires_at == CLAIMS.expires_at


def test_a_session_is_prolonged_while_it_is_used_but_not_for_ever() -> None:
    made = sessions().begin(CLAIMS, "nonce", now=1000)
    assert sessions().prolonged(made, now=1010) is None
    longer = sessions().prolonged(made, now=1060)
    assert longer is not None
    assert longer.expires_at == 1160
    at_the_end = sessions().prolonged(longer, now=1950)
    assert at_the_end is not None
    assert at_the_end.expires_at == at_the_end.ends_at == 2000
    assert sessions().prolonged(at_the_end, now=1990) is None


@pytest.mark.parametrize("place", [0, 20, 40, -1])
def test_no_byte_of_a_cookie_can_be_changed(place: int) -> None:
    cookie = sessions().cookie(sessions().begin(CLAIMS, "nonce", now=1000))
    raw = bytearray(base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4)))
    raw[place] ^= 1
    with pytest.raises(InvalidSession):
        sessions().read(base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("="), now=1000)


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", "a" * 3000, "=" * 50])
def test_what_is_no_cookie_is_refused(text: str) -> None:
    with pytest.raises(InvalidSession):
        sessions().read(text, now=1000)


def test_every_key_verifies_the_last_signs_and_a_retired_one_counts_no_more() -> None:
    made = sessions({"old": KEYS["old"]}).begin(CLAIMS, "nonce", now=1000)
    cookie = sessions({"old": KEYS["old"]}).cookie(made)
    assert sessions().read(cookie, now=1000) == made
    with pytest.raises(InvalidSession):
        sessions({"new": KEYS["new"]}).read(cookie, now=1000)


def test_the_csrf_token_is_of_one_session() -> None:
    mine, other = (sessions().begin(CLAIMS, nonce, now=1000) for nonce in ("mine", "other"))
    token = sessions().csrf(mine)
    assert sessions().is_csrf(mine, token)
    assert not sessions().is_csrf(other, token)
    assert not sessions().is_csrf(mine, "é")
    assert sessions({"new": KEYS["new"], "newer": b"w" * 32}).is_csrf(mine, token)  # made before the keys changed
