"""What comes to the port: requests that are none, too many sockets, and refusals as the wire has them."""

import asyncio
import json

from shared.telemetry.metrics import HUB_SOCKETS_CUT
from tests.hub.conftest import Fleet, StartHub, token


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
