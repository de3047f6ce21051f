"""The API with an issuer elsewhere: its keys rotate, and nothing is restarted."""

import asyncio
import json
import time
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from shared.tokens import KeyRing, TokenRules
from tests.api.conftest import RunningApi, StartApi, problem, token
from tests.shared.issuer import Issuer

RULES = TokenRules("https://issuer.example", "fleet-eu")


def key(kid: str, *, private: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.from_private_bytes(kid.encode().ljust(32))))
    if not private:
        del made["d"]
    return made | {"kid": kid, "alg": "EdDSA"}


def issued(kid: str, rules: TokenRules = RULES) -> str:
    ring = KeyRing.from_jwks(json.dumps({"keys": [key(kid, private=True)]})).under(rules)
    return ring.mint(subject="olga", scopes=frozenset({"operator"}), now=time.time(), lifetime_s=60)


async def asked(api: RunningApi, bearer: str) -> httpx.Response:
    return await api.client(bearer).get("/api/v1/jobs")


async def test_an_issuers_keys_are_waited_for_and_a_rotation_needs_no_restart(start_api: StartApi) -> None:
    issuer = Issuer({"keys": [key("a")]})
    api = await start_api(
        wait=False,
        FLEETWIRE_TOKEN_KEYS="",
        FLEETWIRE_TOKEN_KEYS_URL=issuer.url,
        FLEETWIRE_TOKEN_KEYS_REFRESH_S=0.2,
        FLEETWIRE_TOKEN_KEYS_UNKNOWN_S=0.05,
        FLEETWIRE_TOKEN_ISSUER=RULES.issuer,
        FLEETWIRE_TOKEN_AUDIENCE=RULES.audience,
    )
    await until_said(api, "the key set of bearer tokens is not there yet")
    await issuer.start()
    await until_answers(api)
    assert (await asked(api, issued("a"))).status_code == 200
    assert problem(await asked(api, issued("a", TokenRules(None, "fleet-eu"))), 401, "unauthorized")["reason"] == (
        "wrong_issuer"
    )
    assert problem(await asked(api, token("olga", "operator")), 401, "unauthorized")["reason"] == "unknown_key"

    issuer.keys = {"keys": [key("a"), key("b")]}
    async with asyncio.timeout(20):
        while (await asked(api, issued("b"))).status_code != 200:
            await asyncio.sleep(0.02)
    issuer.keys = {"keys": [key("b")]}
    async with asyncio.timeout(20):
        while (await asked(api, issued("a"))).status_code != 401:
            await asyncio.sleep(0.02)
    await issuer.stop()
    assert (await asked(api, issued("b"))).status_code == 200


async def until_said(api: RunningApi, reason: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if reason in (await api.client().get(f"{api.ops_url}/ready")).text:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)


async def until_answers(api: RunningApi) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if (await api.client().get("/ready")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)
