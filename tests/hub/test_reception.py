"""Who is welcomed, and as what: tokens and tickets, attempts, room in the hub."""

import asyncio
import base64
import hashlib
import hmac
import json
import time

from shared.store import devices
from tests.hub.conftest import Fleet, StartHub, ticket, token, until


def forged(header: dict[str, object], claims: dict[str, object], key: bytes) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    signed = f"{part(header)}.{part(claims)}"
    signature = hmac.new(key, signed.encode(), hashlib.sha256).digest() if key else b""
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


async def test_tokens_that_are_not_good_are_refused_and_never_echoed(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck, other = await fleet.new_device(), await fleet.new_device()
    claims: dict[str, object] = {"aud": "fleetwire", "sub": truck, "scope": "device", "exp": int(time.time()) + 60}
    rows = [
        ("none", forged({"alg": "none", "kid": "tokens-1"}, claims, b""), 401),
        ("other key", forged({"alg": "HS256", "kid": "tokens-1"}, claims, b"x" * 32), 401),
        ("unknown key", forged({"alg": "HS256", "kid": "?"}, claims, b"x" * 32), 401),
        ("no jwt", "hello", 401),
        ("expired", token(truck, lifetime_s=-5), 401),
        ("expired ticket", ticket(truck, lifetime_s=0.5, session_s=60)[:-2] + "xx", 401),
        ("another device's", token(other), 403),
        ("another device's ticket", ticket(other), 403),
        ("operator", token(truck, scope="operator"), 403),
    ]
    for name, bearer, status in rows:
        refused = await fleet.refused(hub.url, truck, bearer=bearer)
        assert refused.status == status, name
        assert bearer not in json.dumps(refused.problem), name
    missing = await fleet.refused(hub.url, truck, bearer="")
    assert (missing.status, missing.headers["WWW-Authenticate"]) == (401, "Bearer")
    both = await fleet.refused(
        hub.url, truck, bearer=token(truck), subprotocols=["fleetwire.v1", f"ticket.{ticket(truck)}"]
    )
    assert both.status == 400
    basic = await fleet.refused(hub.url, truck, bearer="", headers={"Authorization": "Basic YTpi"})
    assert basic.status == 401


async def test_a_ticket_opens_one_socket_by_header_or_as_a_subprotocol_that_is_not_echoed(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    once = ticket(truck)
    device = await fleet.connect(hub.url, truck, bearer=once)
    await device.welcome()
    used = await fleet.refused(hub.url, truck, bearer=once)
    assert (used.status, used.problem["type"]) == (401, "urn:fleetwire:problem:ticket-used")

    browser = await fleet.connect(hub.url, truck, subprotocols=[f"ticket.{ticket(truck)}", "fleetwire.v1"])
    await browser.welcome()
    response = browser.socket.response
    assert response is not None
    assert response.headers.get_all("Sec-WebSocket-Protocol") == ["fleetwire.v1"]
    assert await device.close_code() == 4300


async def test_the_first_valid_token_makes_the_device_with_its_class(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    device = await fleet.connect(hub.url, "new-office-1", bearer=token("new-office-1", device_class="office"))
    assert (await device.welcome())["position"] == "1:0"
    made = await devices.get(fleet.pool, "new-office-1")
    assert made is not None
    assert (made.device_class, made.hub) == ("office", "hub-1")


async def test_a_ticket_of_an_unknown_device_is_spent_once_all_the_same(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    once = ticket("new-truck-2")
    device = await fleet.connect(hub.url, "new-truck-2", bearer=once)
    await device.welcome()
    assert (await fleet.refused(hub.url, "new-truck-2", bearer=once)).status == 401


async def test_an_older_attempt_of_the_same_instance_is_refused(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    instance = "0b8a3e3c-7a0a-4a53-9f58-111111111111"
    device = await fleet.connect(hub.url, truck, instance=instance, attempt=5)
    await device.welcome()
    refused = await fleet.refused(hub.url, truck, instance=instance, attempt=4)
    assert (refused.status, refused.problem["type"]) == (409, "urn:fleetwire:problem:older-attempt")
    again = await fleet.connect(hub.url, truck, instance=instance, attempt=5)
    await again.welcome()
    assert await device.close_code() == 4002


async def test_a_full_hub_refuses_new_devices_but_takes_replacements(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_CAPACITY="2")
    trucks = [await fleet.new_device() for _ in range(3)]
    first = [await fleet.connect(hub.url, truck) for truck in trucks[:2]]
    for device in first:
        await device.welcome()
    refused = await fleet.refused(hub.url, trucks[2])
    assert (refused.status, refused.problem["type"]) == (503, "urn:fleetwire:problem:full")
    assert 1 <= int(refused.headers["Retry-After"]) <= 8
    replacement = await fleet.connect(hub.url, trucks[0])
    await replacement.welcome()
    assert await first[0].close_code() == 4300
    await first[1].socket.close()
    await until(lambda: len(hub.running.hub.registry) < 2)
    await (await fleet.connect(hub.url, trucks[2])).welcome()


async def test_a_device_cannot_have_many_handshakes_under_way(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_GATHER_S="0.2")
    truck = await fleet.new_device()
    tries = await asyncio.gather(*(fleet.connect(hub.url, truck) for _ in range(8)), return_exceptions=True)
    refused = [one.response.status_code for one in tries if isinstance(one, Exception) and hasattr(one, "response")]
    assert 429 in refused
    assert set(refused) <= {429, 503, 409}
