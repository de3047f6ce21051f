"""When a credential is over, by two clocks of which one may be set, and how it is renewed."""

import time

import pytest

from hub.greeting import Credential
from hub.validity import Validity
from shared.tokens import KeyRing
from tests.hub.conftest import TICKETS, TOKENS, token

SOON = 1_800_000_000.0


def held(expires_at: float = SOON, *, key_id: str = "tokens-1", tokens: KeyRing = TOKENS) -> Validity:
    credential = Credential("truck-7", frozenset({"device"}), None, expires_at, key_id)
    return Validity(credential, tokens=tokens, tickets=TICKETS)


def test_the_end_is_reckoned_in_time_that_nobody_sets() -> None:
    validity = held()
    validity.reckon(100.0, SOON - 60)
    assert validity.due == 160.0
    assert not validity.is_over(159.9, SOON)
    assert validity.is_over(160.0, SOON)


def test_a_wall_clock_set_back_gives_the_time_back() -> None:
    validity = held()
    validity.reckon(100.0, SOON - 60)
    assert not validity.is_over(160.0, SOON - 3600)
    assert validity.due == 3760.0


def test_a_wall_clock_set_forward_ends_it_once_that_is_noticed() -> None:
    validity = held()
    validity.reckon(100.0, SOON - 60)
    validity.reckon(101.0, SOON + 5)
    assert validity.is_over(101.0, SOON + 5)


def test_a_renewed_credential_counts_once_it_was_looked_up() -> None:
    validity, now = held(time.time() + 5), time.time()
    validity.reckon(0.0, now)
    renewed = validity.begin_renewal(token("truck-7", lifetime_s=600), now)
    assert isinstance(renewed, Credential)
    assert validity.issued_at is None
    assert validity.end_renewal(renewed, False) is None
    validity.reckon(0.0, now)
    assert validity.due == pytest.approx(600, abs=2)
    assert (validity.issued_at, validity.token_id) == (renewed.issued_at, renewed.token_id)


@pytest.mark.parametrize(("revoked", "why"), [(True, "revoked"), (None, "cannot be checked now")])
def test_one_that_was_revoked_or_cannot_be_looked_up_leaves_the_old_one(revoked: bool | None, why: str) -> None:
    validity, now = held(), time.time()
    renewed = validity.begin_renewal(token("truck-7"), now)
    assert isinstance(renewed, Credential)
    assert why in str(validity.end_renewal(renewed, revoked))
    assert validity.issued_at is None


def test_a_second_token_waits_for_the_answer_to_the_first() -> None:
    validity, now = held(), time.time()
    first = validity.begin_renewal(token("truck-7"), now)
    assert isinstance(first, Credential)
    assert "still being checked" in str(validity.begin_renewal(token("truck-7"), now))
    validity.end_renewal(first, None)
    assert isinstance(validity.begin_renewal(token("truck-7"), now), Credential)


def test_a_token_that_is_not_good_is_refused_at_once_and_blocks_nothing() -> None:
    validity, now = held(), time.time()
    assert isinstance(validity.begin_renewal(token("truck-8"), now), str)
    assert isinstance(validity.begin_renewal(token("truck-7"), now), Credential)


def test_what_a_retired_key_has_signed_is_not_signed_any_more() -> None:
    assert held().is_signed
    assert not held(key_id="tokens-0").is_signed


def test_a_key_retired_while_its_token_was_looked_up_renews_nothing() -> None:
    validity, now = held(), time.time()
    renewed = validity.begin_renewal(token("truck-7"), now)
    assert isinstance(renewed, Credential)
    other = Credential("truck-7", renewed.scopes, None, renewed.expires_at, "tokens-0")
    assert "retired" in str(validity.end_renewal(other, False))
