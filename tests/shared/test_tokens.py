"""Tokens: what is accepted, and every way of not being accepted."""

import json
from typing import Any

import jwt
import pytest

from shared.tokens import API_AUDIENCE, HUB_AUDIENCE, Claims, InvalidToken, KeyRing

NOW = 1_800_000_000.0
SECRET = "a" * 43
OTHER = "b" * 43


def oct_key(kid: str, k: str = SECRET) -> dict[str, str]:
    return {"kty": "oct", "kid": kid, "alg": "HS256", "k": k}


def ring(*keys: dict[str, Any]) -> KeyRing:
    return KeyRing.from_jwks(json.dumps({"keys": list(keys)}))


RING = ring(oct_key("k1"))


def forged(*, kid: str | None = "k1", key: str | None = None, **claims: Any) -> str:
    payload = {"aud": API_AUDIENCE, "sub": "truck-7", "scope": "device", "exp": NOW + 60} | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key or secret_bytes(SECRET), algorithm="HS256", headers={"kid": kid} if kid else {})


def secret_bytes(k: str) -> Any:
    return jwt.utils.base64url_decode(k)


def ed25519_key(kid: str, *, private: bool = True) -> dict[str, Any]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    made: dict[str, Any] = json.loads(
        jwt.algorithms.OKPAlgorithm.to_jwk(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    )
    if not private:
        made.pop("d")
    return made | {"kid": kid, "alg": "EdDSA"}


def reason(token: str, *, accepted: KeyRing = RING) -> str:
    with pytest.raises(InvalidToken) as caught:
        accepted.verify(token, now=NOW)
    assert token[:20] not in str(caught.value) or not token
    return caught.value.reason


def test_what_was_minted_is_accepted_and_says_what_it_was_given() -> None:
    token = RING.mint(subject="truck-7", scopes=frozenset({"device"}), now=NOW, lifetime_s=60, device_class="truck")
    claims = RING.verify(token, now=NOW)
    assert (claims.subject, claims.device_class, claims.expires_at) == ("truck-7", "truck", NOW + 60)
    assert claims.allows("device")
    assert not claims.allows("operator")


def test_a_token_is_refused_for_the_reason_that_is_true() -> None:
    assert reason("") == "missing"
    assert reason("x") == "malformed"
    assert reason("x" * 9000) == "malformed"
    assert reason(forged(exp=NOW)) == "expired"
    assert reason(forged(nbf=NOW + 60)) == "not_yet_valid"
    assert reason(forged(kid="k2")) == "unknown_key"
    assert reason(forged(kid=None)) == "unknown_key"
    assert reason(forged(key=OTHER)) == "bad_signature"
    assert reason(forged(aud="other")) == "wrong_audience"
    assert reason(forged(aud=HUB_AUDIENCE)) == "wrong_audience"
    assert reason(forged(sub=None)) == "bad_claims"
    assert reason(forged(sub="Truck 7")) == "bad_claims"
    assert reason(forged(exp=None)) == "bad_claims"
    assert reason(forged(exp=NOW * 1000)) == "bad_claims"
    assert reason(forged(exp="soon")) in ("bad_claims", "malformed")


def test_a_token_without_signature_is_refused() -> None:
    payload = {"aud": API_AUDIENCE, "sub": "a", "exp": NOW + 60}
    unsigned = jwt.encode(payload, "", algorithm="none", headers={"kid": "k1"})
    assert reason(unsigned) == "bad_signature"


def test_a_public_key_cannot_be_used_as_a_shared_secret() -> None:
    public = ed25519_key("e1", private=False)
    accepted = ring(public)
    as_secret = forged(kid="e1", key=public["x"])
    assert reason(as_secret, accepted=accepted) == "bad_signature"


def test_verifying_needs_only_the_public_key_and_signing_needs_the_private_one() -> None:
    token = ring(ed25519_key("e1")).mint(subject="ops", scopes=frozenset({"operator"}), now=NOW, lifetime_s=60)
    public = ring(ed25519_key("e1", private=False))
    assert public.verify(token, now=NOW).allows("operator")
    with pytest.raises(ValueError, match="public keys only"):
        public.mint(subject="ops", scopes=frozenset({"operator"}), now=NOW, lifetime_s=60)


def test_keys_rotate_without_invalidating_tokens_of_the_old_one() -> None:
    both = ring(oct_key("k1"), oct_key("k2", OTHER))
    assert both.verify(forged(), now=NOW).key_id == "k1"
    fresh = both.mint(subject="truck-7", scopes=frozenset({"device"}), now=NOW, lifetime_s=60)
    assert both.verify(fresh, now=NOW).key_id == "k2"
    assert reason(fresh) == "unknown_key"


def test_scopes_that_do_not_exist_are_not_granted() -> None:
    assert RING.verify(forged(scope="device root"), now=NOW).scopes == {"device"}
    assert RING.verify(forged(scope=["device"]), now=NOW).scopes == frozenset()
    with pytest.raises(ValueError, match="unknown scope"):
        RING.mint(subject="a", scopes=frozenset({"root"}), now=NOW, lifetime_s=1)


def test_a_ticket_admits_to_a_hub_and_nowhere_else() -> None:
    ticket = RING.mint_ticket(
        subject="truck-7", token_id="t" * 16, now=NOW, lifetime_s=30, session_expires_at=NOW + 3600
    )
    read = RING.verify_ticket(ticket, now=NOW)
    assert (read.subject, read.token_id, read.session_expires_at) == ("truck-7", "t" * 16, NOW + 3600)
    assert reason(ticket) == "wrong_audience"
    with pytest.raises(InvalidToken) as caught:
        RING.verify_ticket(forged(), now=NOW)
    assert caught.value.reason == "wrong_audience"


@pytest.mark.parametrize(
    "claims",
    [
        {"jti": None},
        {"jti": "short"},
        {"jti": "no\0print\ud800"},
        {"session_exp": None},
        {"session_exp": NOW - 1},
        {"session_exp": NOW * 1000},
        {"sub": "A"},
    ],
)
def test_a_ticket_that_lacks_something_is_refused(claims: dict[str, Any]) -> None:
    complete: dict[str, Any] = {"aud": HUB_AUDIENCE, "jti": "j" * 10, "session_exp": NOW + 9}
    token = forged(**(complete | claims))
    with pytest.raises(InvalidToken) as caught:
        RING.verify_ticket(token, now=NOW)
    assert caught.value.reason == "bad_claims"


def test_a_ticket_carries_what_its_token_can_be_revoked_by() -> None:
    made = RING.mint_ticket(
        subject="truck-7", token_id="t" * 16, now=NOW, lifetime_s=30, session_expires_at=NOW + 60,
        parent="token-1", parent_issued_at=NOW - 50.5,
    )  # fmt: skip
    read = RING.verify_ticket(made, now=NOW)
    assert (read.parent, read.issued_at) == ("token-1", NOW - 50.5)
    bare = RING.mint_ticket(subject="a", token_id="t" * 16, now=NOW, lifetime_s=30, session_expires_at=NOW + 60)
    assert (RING.verify_ticket(bare, now=NOW).parent, RING.verify_ticket(bare, now=NOW).issued_at) == (None, None)


@pytest.mark.parametrize(
    ("said", "taken"),
    [(NOW - 5.25, NOW - 5.25), (NOW + 999, NOW), (None, None), ("soon", None), (True, None), (-1, None)],
)
def test_when_a_token_was_issued_is_taken_from_it_but_never_from_the_future(said: Any, taken: float | None) -> None:
    assert RING.verify(forged(iat=said), now=NOW).issued_at == taken


def test_a_token_made_a_moment_later_is_seen_to_be_newer() -> None:
    first, second = (
        RING.verify(RING.mint(subject="a", scopes=frozenset({"device"}), now=now, lifetime_s=9), now=NOW + 2).issued_at
        for now in (NOW + 0.25, NOW + 0.75)
    )
    assert first is not None
    assert second is not None
    assert first < second


def test_a_ticket_never_lives_longer_than_a_minute() -> None:
    with pytest.raises(ValueError, match="60 s"):
        RING.mint_ticket(subject="a", token_id="t" * 16, now=NOW, lifetime_s=61, session_expires_at=NOW + 99)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "key set"), ("[]", "key set"), ('{"keys":[]}', "no key"), ('{"keys":[7]}', "key 0"),
        (json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": SECRET}]}), "kid"),
        (json.dumps({"keys": [{"kty": "oct", "kid": "a", "k": SECRET}]}), "alg"),
        (json.dumps({"keys": [{"kty": "oct", "kid": "a", "alg": "none", "k": SECRET}]}), "alg"),
        (json.dumps({"keys": [{"kty": "OKP", "kid": "a", "alg": "EdDSA", "k": SECRET}]}), "cannot be read"),
        (json.dumps({"keys": [oct_key("a"), oct_key("a")]}), "twice"),
    ],
)  # fmt: skip
def test_a_key_set_that_cannot_be_used_is_refused_without_showing_a_secret(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        KeyRing.from_jwks(text)
    assert SECRET not in str(caught.value)


def test_the_ring_shows_its_key_ids_and_no_secret() -> None:
    assert repr(RING) == "KeyRing(['k1'], signs with k1)"


def test_a_principal_is_the_first_kind_that_the_token_carries() -> None:
    def principal(scope: str) -> str:
        return Claims("olga", frozenset(scope.split()), None, 0.0, "k").principal

    assert principal("operator") == "operator:olga"
    assert principal("service operator") == "operator:olga"
    assert principal("operator device service") == "device:olga"
    assert principal("service") == "service:olga"
