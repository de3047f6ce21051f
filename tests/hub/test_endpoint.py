"""Every answer to a handshake: the upgrade, and each row of the refusals; positions to resume from."""

import asyncio
import base64
import hashlib
import hmac
import json
import time

import pytest

from shared.store import devices, log
from shared.store.log import Retention
from shared.telemetry.metrics import HUB_SOCKETS_CUT
from tests.hub.conftest import Fleet, StartHub, ticket, token, until


async def raw(url: str, request: bytes, deadline_s: float = 5.0) -> bytes:
    """Send bytes to the hub's port and read to the end."""
    host, port = url.removeprefix("ws://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    try:
        async with asyncio.timeout(deadline_s):
            return await reader.read(65536)
    finally:
        writer.close()


def head(target: str, *lines: str) -> bytes:
    return "\r\n".join(
        [
            f"GET {target} HTTP/1.1",
            "Host: hub",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
            *lines,
            "",
            "",
        ]
    ).encode()


MALFORMED = [
    ("", "device_id"),
    ("device_id=", "device_id"),
    ("device_id=Truck", "device_id"),
    ("device_id=a..b", "device_id"),
    ("device_id=con", "device_id"),
    ("device_id=truck%2D7", "device_id"),
    ("device_id=truck+7", "device_id"),
    ("device%5Fid=truck-7", "device_id"),
    ("device_id=" + "a" * 65, "device_id"),
    ("device_id=truck-7&device_id=truck-8", "device_id"),
    ("device_id=truck-7&after=", "after"),
    ("device_id=truck-7&after=1", "after"),
    ("device_id=truck-7&after=-1:2", "after"),
    ("device_id=truck-7&after=0:2", "after"),
    ("device_id=truck-7&after=1:2:3", "after"),
    ("device_id=truck-7&after=1:99999999999999999", "after"),
    ("device_id=truck-7&instance=me", "instance"),
    ("device_id=truck-7&instance=" + "g" * 36, "instance"),
    ("device_id=truck-7&attempt=1", "attempt"),
    ("device_id=truck-7&instance=0b8a3e3c-7a0a-4a53-9f58-111111111111&attempt=-1", "attempt"),
    ("device_id=truck-7&instance=0b8a3e3c-7a0a-4a53-9f58-111111111111&attempt=1.5", "attempt"),
    ("device_id=truck-7&hub=a/b", "hub"),
]


async def test_a_malformed_query_is_refused_with_the_field_named(start_hub: StartHub) -> None:
    hub = await start_hub()
    for query, field in MALFORMED:
        answer = await raw(hub.url, head(f"/v1/socket?{query}", "Sec-WebSocket-Protocol: fleetwire.v1"))
        first, _, rest = answer.partition(b"\r\n")
        assert first == b"HTTP/1.1 400 Bad Request", query
        problem = json.loads(rest.partition(b"\r\n\r\n")[2])
        assert problem["type"] == "urn:fleetwire:problem:invalid-parameter", query
        assert problem["field"] == field, query
        assert problem["request_id"]


async def test_refusals_before_the_token_is_looked_at(start_hub: StartHub) -> None:
    hub = await start_hub()
    target = "/v1/socket?device_id=truck-7"
    subprotocol = "Sec-WebSocket-Protocol: fleetwire.v1"
    rows = [
        (head("/elsewhere", subprotocol), 404),
        (head("/v1/socket/?device_id=truck-7", subprotocol), 404),
        (head(target), 426),
        (head(target, "Sec-WebSocket-Protocol: chat, fleetwire.v2"), 426),
        (head(target, "Sec-WebSocket-Protocol: a b"), 400),
        (head(target, subprotocol).replace(b"GET ", b"POST ", 1), 405),
        (head(target, subprotocol).replace(b"Upgrade: websocket\r\n", b""), 426),
        (head(target, subprotocol).replace(b"Version: 13", b"Version: 8"), 400),
        (head(target, subprotocol).replace(b"Key: AAAAAAAAAAAAAAAAAAAAAA==", b"Key: short"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00garbage\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431),
        (head(target, subprotocol), 401),
    ]
    for request, status in rows:
        answer = await raw(hub.url, request)
        assert answer.startswith(b"HTTP/1.1 %d " % status), (request[:80], answer[:200])


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


async def test_a_request_that_never_comes_is_cut(start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HANDSHAKE_S="0.3")
    cut = HUB_SOCKETS_CUT.labels("request")
    before = cut._value.get()
    assert await raw(hub.url, b"GET /v1/so") == b""
    assert cut._value.get() == before + 1


async def test_sockets_that_ask_for_nothing_are_bounded_and_leave_room_again(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_CAPACITY="2", FLEETWIRE_HUB_HANDSHAKES_MAX="4", FLEETWIRE_HUB_HANDSHAKE_S="1.0")
    idle = await asyncio.gather(*(raw(hub.url, b"GET") for _ in range(12)))
    assert idle == [b""] * 12
    device = await fleet.connect(hub.url, await fleet.new_device())
    await device.welcome()


async def test_frames_before_the_answer_end_the_connection(start_hub: StartHub) -> None:
    hub = await start_hub()
    bearer = f"Authorization: Bearer {token('truck-early')}"
    request = head("/v1/socket?device_id=truck-early", "Sec-WebSocket-Protocol: fleetwire.v1", bearer)
    assert await raw(hub.url, request + b"\x81\x80\x00\x00\x00\x00") == b""


async def test_a_harmless_request_id_is_answered_and_another_replaced(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    refused = await fleet.refused(hub.url, "truck-7", bearer="", headers={"X-Request-ID": "abc-1"})
    assert refused.problem["request_id"] == refused.headers["X-Request-ID"] == "abc-1"
    refused = await fleet.refused(hub.url, "truck-7", bearer="", headers={"X-Request-ID": "a b"})
    assert refused.problem["request_id"] == refused.headers["X-Request-ID"] != "a b"


async def test_every_row_of_the_resume_table(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    await fleet.record(truck, 10)
    first = await fleet.connect(hub.url, truck)
    await first.welcome()
    await first.seqs(10)
    await first.ack(4)
    await fleet.until_acked(truck, 4)

    # From the floor to the head: go on.
    for after, follows in (("1:0", 1), ("1:7", 8), ("1%3A9", 10)):
        device = await fleet.connect(hub.url, truck, after=after)
        assert (await device.welcome())["position"] == after.replace("%3A", ":")
        assert await device.seqs(1) == [follows]
    device = await fleet.connect(hub.url, truck, after="1:10")
    assert (await device.welcome())["position"] == "1:10"
    # None named: after the acked one.
    device = await fleet.connect(hub.url, truck)
    welcome = await device.welcome()
    assert (welcome["position"], welcome["acked"], welcome["head"]) == ("1:4", 4, 10)
    assert await device.seqs(1) == [5]


async def test_a_position_below_the_floor_is_reset_to_the_floor(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    await fleet.record(truck, 10)
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    await device.ack(6)
    await fleet.until_acked(truck, 6)
    zero = Retention().acked * 0
    await log.trim(fleet.pool, Retention(acked=zero))
    device = await fleet.connect(hub.url, truck, after="1:2")
    assert (await device.welcome())["position"] == "1:6"
    assert await device.frame() == {"type": "reset", "position": "1:6", "reason": "retention"}
    assert await device.seqs(4) == [7, 8, 9, 10]


async def test_an_older_epoch_is_reset_to_the_acked_position(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    await fleet.record(truck, 5)
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    await device.ack(3)
    await fleet.until_acked(truck, 3)
    await log.raise_device_epoch(fleet.pool, truck, seen_epoch=1, claimed_epoch=1)
    assert await device.close_code() == 4102
    device = await fleet.connect(hub.url, truck, after="1:5")
    assert (await device.welcome())["position"] == "2:3"
    assert await device.frame() == {"type": "reset", "position": "2:3", "reason": "epoch"}
    assert await device.seqs(2) == [4, 5]


@pytest.mark.parametrize("after", ["1:9", "7:1"])
async def test_a_position_the_log_does_not_have_raises_the_epoch_of_that_device(
    fleet: Fleet, start_hub: StartHub, after: str
) -> None:
    hub = await start_hub()
    truck, other = await fleet.new_device(), await fleet.new_device()
    await fleet.record(truck, 5)
    bystander = await fleet.connect(hub.url, other)
    await bystander.welcome()
    device = await fleet.connect(hub.url, truck, after=after)
    welcome = await device.welcome()
    reset = await device.frame()
    epoch, seq = map(int, reset["position"].split(":"))
    assert epoch > int(after.split(":")[0])
    assert (seq, reset["reason"], welcome["position"]) == (0, "log_loss", reset["position"])
    assert await device.seqs(5) == [1, 2, 3, 4, 5]
    await fleet.record(other)
    assert await bystander.seqs(1) == [1]


async def test_a_position_of_an_absurd_epoch_is_refused(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    refused = await fleet.refused(hub.url, truck, after="2000000:1")
    assert (refused.status, refused.problem["field"]) == (400, "after")
