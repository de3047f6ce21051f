"""What nobody should send, sent to running processes: each gets a clear answer and a count, nothing is lost by it, and
no process ends of it.
"""

import base64
import json
import os
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from device.client import Client
from device.event import Event
from device.route import State
from device.timing import Timing
from loadtests.fault_proxy import FaultProxy
from loadtests.watched_device import WatchedDevice, judge, publish
from shared.protocol.event import RESPONSE_READY
from shared.tokens import KeyRing
from tests.e2e.conftest import Site, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]

RATTLED = ("api", "files", "hub-1", "watcher-1", "worker-1", "postgres", "valkey")


@pytest.fixture
def all_live_on(site: Site) -> Iterator[None]:
    """No process may end because of what the test sends."""
    before = {name: site.machine.pid(name) for name in RATTLED}
    yield
    assert {name: site.machine.pid(name) for name in RATTLED} == before, site.machine.log()[-4000:]


def forged(subject: str, *, algorithm: str = "none") -> str:
    claims = {"aud": "fleetwire", "sub": subject, "scope": "device", "exp": int(time.time()) + 600}
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm, "kid": "tokens-1"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def other_key(subject: str) -> str:
    secret = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    ring = KeyRing.from_jwks(json.dumps({"keys": [{"kty": "oct", "kid": "other", "alg": "HS256", "k": secret}]}))
    return ring.mint(subject=subject, scopes=frozenset({"device"}), now=time.time(), lifetime_s=600)


def png_that_declares(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def photo(path: Path) -> bytes:
    Image.linear_gradient("L").resize((1200, 900)).save(path, "JPEG")
    return path.read_bytes()


@pytest.mark.usefixtures("all_live_on")
async def test_bad_files_are_answered_bad_names_are_refused_and_good_ones_still_come_through(
    site: Site, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    documents: dict[str, dict[str, Any]] = {}
    summaries: dict[str, dict[str, Any]] = {}

    async def save(client: Client, event: Event) -> None:
        assert event.type == RESPONSE_READY
        folder = inbox / event.id
        folder.mkdir()
        saved = [await client.download(file, folder) for file in event.files]
        name = event.data["request"]["name"]
        for path in saved:
            if path.name == "summary.json":
                summaries[name] = json.loads(path.read_bytes())
        (document,) = (path for path in saved if path.name == "response.json")
        documents[name] = json.loads(document.read_bytes())

    device = WatchedDevice(
        site.machine, site.new_device("files"), timing=Timing().faster(5), folder=tmp_path, on_event=save
    )
    requests = f"Requests/{device.device_id}"
    refused = await site.counts("watcher", "fleetwire_watcher_refused_total", "reason")
    finished = await site.counts("worker", "fleetwire_worker_finished_total", "outcome")
    async with FaultProxy(site.hub, port=site.hub_port):
        await device.start()
        await device.until(lambda: device.state is State.LIVE, 20, "live")
        whole = photo(tmp_path / "whole.jpg")
        site.drop(f"{requests}/truncated.jpg", whole[: len(whole) // 2])
        site.drop(f"{requests}/bomb.png", png_that_declares(50_000, 50_000))
        site.drop(f"{requests}/ragged.csv", b"a,b\n1,2\n3\n4,5,6\n7,8\n")
        site.drop(f"{requests}/long-line.csv", b"a,b\n1,2\n" + b"x" * (50 * 2**20) + b"\n3,4\n")
        site.drop(f"{requests}/plan.dwg", b"AC1032")

        raw = os.fsencode(site.machine.cloud / requests)
        for name in (b"new\nline.csv", b"caf\xe9.csv", b"n" * 250):
            Path(os.fsdecode(raw + b"/" + name)).write_bytes(b"a,b\n1,2\n")
        (site.machine.cloud / requests / "link.csv").symlink_to("/etc/hostname")
        with pytest.raises(OSError, match="too long"):
            site.drop(f"{requests}/{'n' * 300}.csv", b"")  # no file system of ours holds such a name
        site.drop("Requests/NOT-LEGAL/a.csv", b"a\n1\n")
        site.drop("Requests/a..b/a.csv", b"a\n1\n")

        site.drop(f"{requests}/good.csv", b"a,b\n1,2\n")
        site.drop(f"{requests}/good.jpg", whole)
        await device.until(lambda: len(documents) >= 7, 40, "an answer to every file that can be one")
        await device.stop()

    outcomes = {name: document["outcome"] for name, document in documents.items()}
    assert outcomes == {
        "truncated.jpg": "unreadable",
        "bomb.png": "too_large",
        "ragged.csv": "processed",
        "long-line.csv": "processed",
        "plan.dwg": "unknown",
        "good.csv": "processed",
        "good.jpg": "processed",
    }
    assert all(documents[name]["detail"] for name in ("truncated.jpg", "bomb.png", "plan.dwg"))
    assert summaries["ragged.csv"]["ragged_rows"] == {"short": 1, "long": 1}
    assert summaries["long-line.csv"]["bad_rows"]["too_long"] == 1
    assert summaries["long-line.csv"]["rows"] == summaries["ragged.csv"]["rows"] // 2 == 2
    verdict = await judge(site.machine, [device])
    assert verdict.passed, verdict

    now = await site.counts("worker", "fleetwire_worker_finished_total", "outcome")
    added = {outcome: now.get(outcome, 0) - finished.get(outcome, 0) for outcome in now}
    assert {outcome: count for outcome, count in added.items() if count} == Counter(outcomes.values())

    async def counted() -> bool:
        now = await site.counts("watcher", "fleetwire_watcher_refused_total", "reason")
        added = {reason: now.get(reason, 0) - refused.get(reason, 0) for reason in now}
        return added.get("file_name", 0) >= 3 and added.get("link", 0) >= 1 and added.get("device_id", 0) >= 2

    await until(counted, "every refused path counted")


@pytest.mark.usefixtures("all_live_on")
async def test_bad_handshakes_and_frames_harm_nobody_else(site: Site) -> None:
    device = WatchedDevice(site.machine, site.new_device("good"), timing=Timing().faster(5))
    bad = site.new_device("bad")
    good = site.machine.token(bad, "device")

    async def ticket() -> str:
        async with httpx.AsyncClient(base_url=site.machine.api) as client:
            headers = {"Authorization": f"Bearer {good}"}
            answer = await client.get(f"/api/v1/devices/{bad}/connection", headers=headers)
            text: str = answer.json()["ticket"]
            return text

    used = await ticket()
    async with socket(site, bad, used) as opened:
        await opened.recv()
    handshakes = [
        ("none", bad, None, "", 401),
        ("expired", bad, site.machine.token(bad, "device", lifetime_s=-60), "", 401),
        ("other key", bad, other_key(bad), "", 401),
        ("alg none", bad, forged(bad), "", 401),
        ("altered", bad, good[:-4] + "AAAA", "", 401),
        ("another device's", bad, site.machine.token("somebody-else", "device"), "", 403),
        ("ticket used twice", bad, used, "", 401),
        ("illegal id", "BAD", good, "", 400),
        ("malformed position", bad, good, "&after=one:two", 400),
        ("position of an absurd epoch", bad, good, "&after=999999999:1", 400),
    ]
    frames: list[tuple[bytes | str, int]] = [
        (b"\x00\x01", 4302),
        ('{"type":"ack","seq":"' + "1" * 70_000 + '"}', 1009),
        ("not json", 4302),
        ('{"type":"ack","seq":1,"seq":2}', 4302),
        ('{"type":"x","a":' + "[" * 5000 + "]" * 5000 + "}", 4302),
    ]
    answered = [
        ('{"type":"hello"}', "unknown_type"),
        ('{"type":"ack","seq":-1}', "wrong_field"),
        ('{"type":"ack","seq":1.5}', "wrong_field"),
        ('{"type":"ack","seq":5}', "ack_above_head"),
    ]
    refused_before = await site.count("hub-1", "fleetwire_hub_handshakes_refused_total")
    frames_before = await site.counts("hub-1", "fleetwire_hub_frames_refused_total", "code")
    closes_before = await site.counts("hub-1", "fleetwire_hub_closes_total", "code")
    async with FaultProxy(site.hub, port=site.hub_port):
        await device.start()
        await device.until(lambda: device.state is State.LIVE, 20, "live")
        for name, device_id, bearer, query, status in handshakes:
            with pytest.raises(InvalidStatus) as refusal:
                async with socket(site, device_id, bearer, query):
                    pass
            response = refusal.value.response
            assert response.status_code == status, name
            problem = json.loads(response.body or b"")
            assert problem["detail"], name
            assert problem["request_id"], name
        for frame, code in frames:
            async with socket(site, bad, good) as opened:
                await opened.recv()
                await opened.send(frame)
                with pytest.raises(ConnectionClosed) as closed:
                    await opened.recv()
            assert closed.value.rcvd is not None, frame[:40]
            assert closed.value.rcvd.code == code, frame[:40]
        async with socket(site, bad, good) as opened:
            await opened.recv()
            for text, name in answered:
                await opened.send(text)
                error = json.loads(await opened.recv())
                assert (error["type"], error["code"]) == ("error", name), text
                assert error["detail"]
        await publish(site.machine, [device.device_id, bad], 10)
        await device.until(lambda: len(device.shown) == 5, 20, "the events of a device beside it")
        assert len(device.states) <= 2, device.states
        await device.stop()
    assert await site.count("hub-1", "fleetwire_hub_handshakes_refused_total") - refused_before == len(handshakes)
    refused = await site.counts("hub-1", "fleetwire_hub_frames_refused_total", "code")
    added = {code: refused.get(code, 0) - frames_before.get(code, 0) for code in refused}
    assert {code: added[code] for code in ("unknown_type", "wrong_field", "ack_above_head")} == {
        "unknown_type": 1,
        "wrong_field": 2,
        "ack_above_head": 1,
    }
    closes = await site.counts("hub-1", "fleetwire_hub_closes_total", "code")
    assert closes["4302"] - closes_before.get("4302", 0) == 4
    assert closes["1009"] - closes_before.get("1009", 0) == 1


def socket(site: Site, device_id: str, bearer: str | None, query: str = "") -> "connect":
    """A socket of a client that is not ours."""
    return connect(
        f"{site.hub}/v1/socket?device_id={device_id}{query}",
        subprotocols=[Subprotocol("fleetwire.v1")],
        additional_headers={"Authorization": f"Bearer {bearer}"} if bearer else {},
        compression=None,
        create_connection=ClientConnection,
        proxy=None,
    )


@pytest.mark.usefixtures("all_live_on")
async def test_bad_requests_are_answered_and_counted(site: Site) -> None:
    name, other = site.new_device("rest"), site.new_device("rest")
    path = f"/api/v1/devices/{name}"
    device, service = site.machine.token(name, "device"), site.machine.token("erp", "service")

    def event(**changes: object) -> dict[str, object]:
        return {"device_id": name, "type": "Test", "data": {}, **changes}

    def body(*events: object) -> bytes:
        return json.dumps({"events": events}).encode()

    tokens_before = await site.count("api", "fleetwire_api_tokens_refused_total")
    results_before = await site.counts("api", "fleetwire_api_events_recorded_total", "result")
    async with httpx.AsyncClient(base_url=site.machine.api, timeout=30) as client:

        async def answer(method: str, url: str, token: str | None, content: bytes = b"", **headers: str) -> Any:
            sent = {"Content-Type": "application/json", **headers}
            if token is not None:
                sent["Authorization"] = f"Bearer {token}"
            return await client.request(method, url, content=content, headers=sent)

        assert (await answer("GET", f"{path}/events", device)).json()["head"] == 0
        rows = [
            ("no token", "GET", f"{path}/events", None, b"", 401),
            ("expired", "GET", f"{path}/events", site.machine.token(name, "device", lifetime_s=-60), b"", 401),
            ("other key", "GET", f"{path}/events", other_key(name), b"", 401),
            ("alg none", "GET", f"{path}/events", forged(name), b"", 401),
            ("another device's", "GET", f"{path}/events", site.machine.token(other, "device"), b"", 403),
            ("not a position", "GET", f"{path}/events?after=x", device, b"", 400),
            ("ack beyond head", "POST", f"{path}/acks", device, b'{"position":"1:99"}', 422),
            ("ack negative", "POST", f"{path}/acks", device, b'{"position":"1:-1"}', 400),
            ("ack of no integer", "POST", f"{path}/acks", device, b'{"position":1.5}', 400),
            ("ack of another epoch", "POST", f"{path}/acks", device, b'{"position":"7:0"}', 409),
            ("publish as a device", "POST", "/api/v1/events", device, body(event()), 403),
            ("not JSON", "POST", "/api/v1/events", service, b"{", 400),
            ("key twice", "POST", "/api/v1/events", service, b'{"events":[],"events":[]}', 400),
            ("too deep", "POST", "/api/v1/events", service, b"[" * 100_000 + b"]" * 100_000, 400),
            ("too many", "POST", "/api/v1/events", service, body(*[event()] * 501), 400),
            ("too large", "POST", "/api/v1/events", service, b" " * (4 * 2**20 + 1), 413),
        ]
        for row, method, url, token, content, status in rows:
            found = await answer(method, url, token, content)
            assert found.status_code == status, (row, found.text)
            problem = found.json()
            assert found.headers["Content-Type"] == "application/problem+json", row
            assert problem["detail"], row
            assert problem["request_id"], row
        wrong_type = await answer("POST", "/api/v1/events", service, body(event()), **{"Content-Type": "text/plain"})
        assert wrong_type.status_code == 415
        published = await answer(
            "POST",
            "/api/v1/events",
            service,
            body(
                event(key="k", data={"n": 1}),
                event(key="k", data={"n": 2}),
                event(device_id="nobody-knows-it"),
                event(device_id="../etc"),
                event(data={"text": "x" * (256 * 1024)}),
                event(key="last"),
            ),
        )
        statuses = [one["status"] for one in published.json()["results"]]
        assert statuses == ["recorded", "conflict", "unknown_device", "invalid", "invalid", "recorded"]
        assert (await answer("GET", f"{path}/events", device)).json()["head"] == 2
    assert await site.count("api", "fleetwire_api_tokens_refused_total") - tokens_before >= 3
    results = await site.counts("api", "fleetwire_api_events_recorded_total", "result")
    added = {result: results.get(result, 0) - results_before.get(result, 0) for result in results}
    assert {result: count for result, count in added.items() if count} == Counter(statuses)
    assert await site.count("api", "fleetwire_api_requests_total", status="413") >= 1
