"""Keys that are published at an address: taken, followed, and not given up too soon or too late."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from structlog.testing import capture_logs

from shared.key_url import KeyUrl
from shared.key_url_settings import KeyUrlSettings
from shared.lifecycle import Stop
from shared.published_keys import read_published
from shared.settings import SettingsError, load
from shared.tokens import InvalidToken, KeyRing, TokenRules
from tests.shared.issuer import Issuer

NOW = 1_800_000_000.0


def ed25519(kid: str, *, private: bool = False, **more: Any) -> dict[str, Any]:
    key: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.from_private_bytes(kid.encode().ljust(32))))
    if not private:
        key.pop("d")
    return key | {"kid": kid} | more


def signer(kid: str, rules: TokenRules | None = None) -> KeyRing:
    keys = [ed25519(kid, private=True, alg="EdDSA")]
    return KeyRing.from_jwks(json.dumps({"keys": keys})).under(rules or TokenRules())


def accepts(ring: KeyRing, kid: str) -> bool:
    token = signer(kid).mint(subject="olga", scopes=frozenset({"operator"}), now=NOW, lifetime_s=60)
    try:
        ring.verify(token, now=NOW)
    except InvalidToken as error:
        return error.reason != "unknown_key"
    return True


class Follower:
    """A ring that follows an issuer, on a clock of the test's."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.now = 0.0
        self.changes = 0
        self.ring = KeyRing({}, frozenset())
        self.key_url = KeyUrl(
            KeyUrlSettings(token_keys_url=url, **settings),
            self.ring,
            rand=random.Random(1),
            on_change=self.on_change,
            clock=lambda: self.now,
        )

    def on_change(self) -> None:
        self.changes += 1

    async def first(self) -> None:
        async with asyncio.timeout(20):
            assert await self.key_url.first(Stop())


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer({"keys": [ed25519("a")]})
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def follower(issuer: Issuer) -> AsyncIterator[Follower]:
    made = Follower(issuer.url)
    await made.first()
    yield made
    await made.key_url.aclose()


async def test_a_published_key_is_taken_and_a_new_one_as_soon_as_a_token_names_it(
    issuer: Issuer, follower: Follower
) -> None:
    assert accepts(follower.ring, "a")
    assert not accepts(follower.ring, "b")
    issuer.keys = {"keys": [ed25519("a"), ed25519("b")]}
    follower.now += 6
    assert await follower.key_url.look()
    assert accepts(follower.ring, "b")
    issuer.keys = {"keys": [ed25519("b")]}
    follower.now += 6
    await follower.key_url.look()
    assert not accepts(follower.ring, "a")
    assert follower.changes == 3


async def test_invented_key_ids_make_it_be_fetched_only_every_few_seconds(issuer: Issuer, follower: Follower) -> None:
    assert not await follower.key_url.look()
    follower.now += 6
    assert await asyncio.gather(*(follower.key_url.look() for _ in range(50))) == [True] * 50
    assert not await follower.key_url.look()
    assert issuer.requests == 2


async def test_what_has_not_changed_is_not_sent_again(issuer: Issuer, follower: Follower) -> None:
    follower.now += 6
    assert await follower.key_url.look()
    assert issuer.statuses == [200, 304]
    assert accepts(follower.ring, "a")


@pytest.mark.parametrize(
    "broken",
    [
        b"<html>",
        b"{}",
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "kid": "x", "k": "c2VjcmV0", "alg": "HS256"}]}',
        b"[" * 10_000,
        b'{"keys": [' + b" " * 70_000 + b"]}",
        500,
        302,
    ],
)
async def test_what_is_no_key_set_changes_nothing_and_is_said_once(
    issuer: Issuer, follower: Follower, broken: bytes | int
) -> None:
    issuer.broken = broken
    with capture_logs() as lines:
        for _ in range(2):
            follower.now += 6
            assert not await follower.key_url.look()
    assert accepts(follower.ring, "a")
    assert len([line for line in lines if line["log_level"] == "error"]) == 1
    assert "c2VjcmV0" not in str(lines)
    issuer.broken = None
    follower.now += 6
    assert await follower.key_url.look()


async def test_while_the_address_is_away_the_last_set_goes_on_but_not_for_ever(
    issuer: Issuer, follower: Follower
) -> None:
    await issuer.stop()
    follower.now += 86_000
    assert not await follower.key_url.look()
    assert accepts(follower.ring, "a")
    follower.now += 1000
    assert not await follower.key_url.look()
    assert not accepts(follower.ring, "a")
    assert follower.changes == 2
    await issuer.start()
    follower.now += 6
    assert await follower.key_url.look()
    assert accepts(follower.ring, "a")


async def test_a_process_waits_for_its_first_set_until_it_is_asked_to_stop(issuer: Issuer) -> None:
    issuer.broken = 503
    follower, stop = Follower(issuer.url), Stop()
    waiting = asyncio.create_task(follower.key_url.first(stop))
    async with asyncio.timeout(20):
        while not issuer.requests:
            await asyncio.sleep(0.01)
        assert not waiting.done()
        stop.request("test")
        assert not await waiting
    await follower.key_url.aclose()


async def test_it_is_fetched_again_by_itself_as_often_as_it_says(issuer: Issuer) -> None:
    issuer.cache_control = "public, max-age=0"
    follower = Follower(issuer.url, token_keys_refresh_s=0.1)
    await follower.first()
    running = asyncio.create_task(follower.key_url.run())
    issuer.keys = {"keys": [ed25519("b")]}
    async with asyncio.timeout(20):
        while not accepts(follower.ring, "b"):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await follower.key_url.aclose()


async def test_own_keys_come_first_and_stay(issuer: Issuer) -> None:
    follower = Follower(issuer.url)
    follower.ring.adopt(signer("own"))
    issuer.keys = {"keys": [ed25519("a"), ed25519("a") | {"kid": "own"}]}
    await follower.first()
    assert accepts(follower.ring, "own")
    assert accepts(follower.ring, "a")
    assert follower.ring.signing_key_id == "own"
    await follower.key_url.aclose()


def test_of_a_published_set_only_public_keys_that_sign_are_taken() -> None:
    entries = [
        ed25519("good"),
        ed25519("for-secrets", use="enc"),
        ed25519("private", private=True),
        {"kty": "oct", "kid": "secret", "k": "AAAA"},
        ed25519("odd", alg="ES256"),
        {"kty": ["list"], "kid": "x"},
        {"kid": 7},
        "no key",
    ]
    assert read_published(json.dumps({"keys": entries})).key_ids == {"good"}


@pytest.mark.parametrize(
    "raw", ["http://issuer.example/keys", "ftp://a/b", "https://", "https://user:pw@a.example/", "issuer.example"]
)
def test_only_an_encrypted_address_or_one_on_this_machine_is_taken(raw: str) -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_TOKEN_KEYS_URL"):
        load(KeyUrlSettings, {"FLEETWIRE_TOKEN_KEYS_URL": raw})


RULES = TokenRules("https://issuer.example", "fleet-eu", 30.0)


def minted(rules: TokenRules) -> str:
    return signer("a", rules).mint(subject="olga", scopes=frozenset({"operator"}), now=NOW, lifetime_s=60)


def test_issuer_and_audience_must_be_those_that_are_set() -> None:
    ring = signer("a", RULES)
    assert ring.verify(minted(RULES), now=NOW).subject == "olga"
    for other, reason in (
        (TokenRules(None, "fleet-eu"), "wrong_issuer"),
        (TokenRules("https://issuer.example/", "fleet-eu"), "wrong_issuer"),
        (TokenRules("https://issuer.example"), "wrong_audience"),
    ):
        with pytest.raises(InvalidToken) as caught:
            ring.verify(minted(other), now=NOW)
        assert caught.value.reason == reason


def test_clocks_may_differ_by_the_skew_and_no_more() -> None:
    ring = signer("a", RULES)
    assert ring.verify(minted(RULES), now=NOW + 89).expires_at == NOW + 90
    with pytest.raises(InvalidToken, match="expired"):
        ring.verify(minted(RULES), now=NOW + 90)
    with pytest.raises(InvalidToken, match="expired"):
        signer("a").verify(minted(TokenRules()), now=NOW + 60)
