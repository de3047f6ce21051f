import base64
import json
import time

import jwt
import pytest

from api.auth import authenticate
from api.problems import Problem
from shared.tokens import KeyRing
from tests.api.conftest import TOKEN_KEYS, RunningApi, StartApi, oct_key_set, problem, token

PATH = "/api/v1/devices/truck-7/events"


def without_signature(bearer: str) -> str:
    payload = bearer.split(".")[1]
    header = base64.urlsafe_b64encode(b'{"alg":"none","kid":"tokens-1"}').decode().rstrip("=")
    return f"{header}.{payload}."


async def test_every_token_that_is_not_good_is_refused_with_its_reason(api: RunningApi) -> None:
    good = token("truck-7")
    now = time.time()
    secret = json.loads(TOKEN_KEYS)["keys"][0]["k"]
    key = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))

    def made(**claims: object) -> str:
        payload = {"aud": "fleetwire", "sub": "truck-7", "scope": "device", "exp": now + 60} | claims
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, key, algorithm="HS256", headers={"kid": "tokens-1"})

    stranger = KeyRing.from_jwks(oct_key_set("tokens-1"))
    unknown = KeyRing.from_jwks(oct_key_set("tokens-2"))
    scopes = frozenset({"device"})
    cases = {
        "x": "malformed",
        "a.b.c": "malformed",
        "x" * 9000: "malformed",
        good[:-4] + "AAAA": "bad_signature",
        without_signature(good): "bad_signature",
        stranger.mint(subject="truck-7", scopes=scopes, now=now, lifetime_s=60): "bad_signature",
        unknown.mint(subject="truck-7", scopes=scopes, now=now, lifetime_s=60): "unknown_key",
        token("truck-7", lifetime_s=-5): "expired",
        made(nbf=now + 60): "not_yet_valid",
        made(aud="hub"): "wrong_audience",
        made(aud=None): "bad_claims",
        made(exp=None): "bad_claims",
        made(exp="soon"): "bad_claims",
        made(sub="Truck-7"): "bad_claims",
        made(**{"class": "No Class"}): "bad_claims",
    }
    for bearer, reason in cases.items():
        answer = await api.client(bearer).get(PATH)
        body = problem(answer, 401, "unauthorized")
        assert body["reason"] == reason, bearer[:40]
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert not bearer or len(bearer) < 5 or bearer not in answer.text
    problem(await api.client().get(PATH), 401, "unauthorized")
    assert (await api.client(good).get(PATH)).status_code == 200


async def test_a_device_reaches_itself_only_and_a_token_only_what_its_scope_allows(api: RunningApi) -> None:
    for bearer in (token("truck-8"), token("truck-7", "service"), token("truck-7", "")):
        answer = await api.client(bearer).get(PATH)
        problem(answer, 403, "forbidden")
    both = api.client(token("truck-8", "device operator"))
    problem(await both.get(PATH), 404, "not-found")  # as an operator it looks, and finds no such device
    problem(await both.post(PATH.replace("events", "acks"), json={"position": "1:0"}), 403, "forbidden")


async def test_the_scheme_may_be_written_in_any_case_and_other_schemes_are_no_token(api: RunningApi) -> None:
    good = token("truck-7")
    assert (await api.client(Authorization=f"bearer {good}").get(PATH)).status_code == 200
    for value in (f"Basic {good}", good, f"Token {good}"):
        assert problem(await api.client(Authorization=value).get(PATH), 401, "unauthorized")["reason"] == "missing"
    assert problem(await api.client().get(f"{PATH}?token={good}"), 401, "unauthorized")["reason"] == "missing"


async def test_old_and_new_keys_are_both_good_until_the_old_one_is_retired(start_api: StartApi) -> None:
    old_and_new = json.loads(oct_key_set("old", "new"))
    sets = [old_and_new["keys"][:1], old_and_new["keys"], old_and_new["keys"][1:]]
    rings = [KeyRing.from_jwks(json.dumps({"keys": keys})) for keys in sets]
    scopes = frozenset({"device"})
    old, new = [
        ring.mint(subject="truck-7", scopes=scopes, now=time.time(), lifetime_s=60) for ring in (rings[0], rings[1])
    ]
    for ring, accepted in zip(rings, ([old], [old, new], [new]), strict=True):
        for bearer in (old, new):
            if bearer in accepted:
                authenticate(ring, bearer, now=time.time())
            else:
                with pytest.raises(Problem):
                    authenticate(ring, bearer, now=time.time())
    api = await start_api(FLEETWIRE_TOKEN_KEYS=json.dumps(old_and_new))
    for bearer in (old, new):
        assert (await api.client(bearer).get(PATH)).status_code == 200


async def test_ids_that_are_not_legal_are_refused_whoever_asks(api: RunningApi) -> None:
    for device_id in (
        "Truck-7",
        "truck_",
        "con",
        "lpt1.x",
        "a..b",
        "x" * 65,
        "truck%2D7",
        "%74ruck-7",
        "tr%FFck",
        "a~b",
    ):
        answer = await api.operator.get(f"/api/v1/devices/{device_id}/events")
        assert answer.status_code == 400, device_id
        assert answer.json()["type"] in (
            "urn:fleetwire:problem:invalid-parameter",
            "urn:fleetwire:problem:invalid-request",
        )
