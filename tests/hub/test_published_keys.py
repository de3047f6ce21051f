"""A hub and an issuer elsewhere: a key counts once a token names it, and ends what it signed when it is retired."""

import asyncio
import json
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from shared.tokens import KeyRing
from tests.hub.conftest import Fleet, StartHub
from tests.shared.issuer import Issuer


def key(kid: str, *, private: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.from_private_bytes(kid.encode().ljust(32))))
    if not private:
        del made["d"]
    return made | {"kid": kid, "alg": "EdDSA"}


def issued(kid: str, device_id: str) -> str:
    ring = KeyRing.from_jwks(json.dumps({"keys": [key(kid, private=True)]}))
    return ring.mint(subject=device_id, scopes=frozenset({"device"}), now=time.time(), lifetime_s=600)


async def test_an_issuers_keys_rotate_without_a_restart(fleet: Fleet, start_hub: StartHub) -> None:
    issuer = Issuer({"keys": [key("a")]})
    await issuer.start()
    hub = await start_hub(
        FLEETWIRE_TOKEN_KEYS="",
        FLEETWIRE_TOKEN_KEYS_URL=issuer.url,
        FLEETWIRE_TOKEN_KEYS_REFRESH_S="0.5",
        FLEETWIRE_TOKEN_KEYS_UNKNOWN_S="0.05",
    )
    stays, goes = [await fleet.new_device() for _ in range(2)]
    going = await fleet.connect(hub.url, goes, bearer=issued("a", goes))
    await going.welcome()
    assert (await fleet.refused(hub.url, stays, bearer=issued("b", stays))).status == 401

    issuer.keys = {"keys": [key("a"), key("b")]}
    seen = issuer.requests
    while issuer.requests == seen:  # until then the set may have been fetched too lately to be fetched again
        await fleet.refused(hub.url, stays, bearer=issued("c", stays))
    staying = await fleet.connect(hub.url, stays, bearer=issued("b", stays))
    await staying.welcome()

    issuer.keys = {"keys": [key("b")]}
    assert await going.close_code() == 4201
    await fleet.record(stays)
    assert await staying.seqs(1) == [1]
    await issuer.stop()


async def test_a_renewal_by_a_key_that_was_just_published_is_taken(fleet: Fleet, start_hub: StartHub) -> None:
    issuer = Issuer({"keys": [key("a")]})
    await issuer.start()
    hub = await start_hub(
        FLEETWIRE_TOKEN_KEYS="", FLEETWIRE_TOKEN_KEYS_URL=issuer.url, FLEETWIRE_TOKEN_KEYS_UNKNOWN_S="0.05"
    )
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck, bearer=issued("a", truck))
    await device.welcome()

    async def renewed(kid: str) -> str:
        await device.socket.send(json.dumps({"type": "token", "token": issued(kid, truck)}))
        return str((await device.frame())["type"])

    issuer.keys = {"keys": [key("a"), key("b")]}
    async with asyncio.timeout(20):
        while await renewed("b") == "error":  # as long as the set was fetched too lately to be fetched again
            pass
    seen = issuer.requests
    assert await renewed("a") == "token_ok"
    assert issuer.requests == seen
    async with asyncio.timeout(20):
        while issuer.requests == seen:
            assert await renewed("invented") == "error"
    await issuer.stop()
