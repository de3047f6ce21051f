import asyncio
import contextlib
import json
import socket
from contextlib import AsyncExitStack

import pytest

from shared.store import devices
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, StartApi, record, token
from tests.api.raw import exchange, server_holds

STALL_S = 0.8


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_http_gets_a_problem_and_the_server_lives(api: RunningApi, raw: bytes) -> None:
    answer = await exchange(api.settings.port, raw)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 "))
    assert b"application/problem+json" in head
    assert b"x-content-type-options: nosniff" in head
    assert json.loads(body)["request_id"]
    assert (await api.client().get("/health")).status_code == 200


async def test_a_target_that_names_the_host_is_the_path_after_it(api: RunningApi) -> None:
    head = f" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token('truck-7')}\r\n\r\n".encode()
    path = b"/api/v1/devices/truck-7/responses"
    for target, status in (
        (b"http://fleet.example/health", b"200"),
        (b"HTTPS://fleet.example:8443/health/", b"200"),
        (b"http://fleet.example", b"200"),
        (b"http://fleet.example?a=b", b"200"),
        (b"http://fleet.example" + path + b"?limit=0", b"400"),
        (b"http://fleet%2eexample/nothing", b"404"),
        (b"http://fleet.example/%61pi", b"400"),
        (b"ftp://fleet.example/health", b"404"),
        (b"http://fleet.example//health", b"404"),
    ):
        answer = await exchange(api.settings.port, b"GET " + target + head)
        assert answer.startswith(b"HTTP/1.1 " + status), (target, answer)


async def test_a_head_that_does_not_come_is_not_waited_for(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_API_HEAD_S=0.2)
    port = api.settings.port
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await exchange(port) == b""
    assert await exchange(port, b"GET /health HTTP/1.1\r\nHo") == b""
    whole = await exchange(port, request + b"GET /he")
    assert whole.count(b"HTTP/1.1 200 OK") == 1
    unread = b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
    assert (await exchange(port, unread)).count(b"HTTP/1.1 200 OK") == 1


async def test_a_request_that_takes_long_to_answer_is_not_a_missing_head(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_API_HEAD_S=0.1)
    answer = await api.device("truck-7").get("/api/v1/devices/truck-7/events", params={"wait": "1"})
    assert answer.status_code == 200


async def test_one_connection_too_many_is_told_so(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_API_CONNECTIONS_MAX=2)
    held = [await asyncio.open_connection("127.0.0.1", api.settings.port) for _ in range(2)]
    answer = await exchange(api.settings.port)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5" in answer
    assert json.loads(answer.split(b"\r\n\r\n")[1])["type"] == "urn:fleetwire:problem:unavailable"
    for _, writer in held:
        writer.close()
        await writer.wait_closed()


async def test_a_reader_that_takes_nothing_is_cut_and_a_slow_one_is_served(start_api: StartApi, pool: Pool) -> None:
    api = await start_api(FLEETWIRE_API_STALL_S=STALL_S, FLEETWIRE_API_PAGE_MAX_BYTES=1024 * 1024)
    await devices.ensure(pool, "truck-7", "truck")
    await record(pool, "truck-7", *(f"{n}" + "x" * 200_000 for n in range(5)))
    request = (
        "GET /api/v1/devices/truck-7/events?after=1:0 HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {token('truck-7')}\r\n\r\n"
    ).encode() * 8  # more than the kernel buffers on its own

    async def connected() -> socket.socket:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", api.settings.port))
        await loop.sock_sendall(raw, request)
        return raw

    async def take_nothing() -> int:
        """How much there is once the server has given up."""
        received = 0
        with await connected() as raw:
            while server_holds(api.settings.port, raw.getsockname()[1]):
                await asyncio.sleep(0.05)
            with contextlib.suppress(ConnectionResetError):
                while data := await loop.sock_recv(raw, 262_144):
                    received += len(data)
        return received

    async def take_slowly() -> None:
        """A little at a time, for longer than the bound on silence."""
        began = loop.time()
        with await connected() as raw:
            while loop.time() < began + 2 * STALL_S:
                assert await loop.sock_recv(raw, 262_144)
                await asyncio.sleep(0.03)
            # What the kernel had taken by then would come all the same.
            assert server_holds(api.settings.port, raw.getsockname()[1])

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        received, _ = await asyncio.gather(take_nothing(), take_slowly())
    assert received < 8_000_000


async def test_who_was_about_to_ask_when_the_server_closed_is_still_answered(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_API_DRAIN_S=1)
    port = api.settings.port
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    leaving = asyncio.create_task(api.leave())
    async with asyncio.timeout(20), AsyncExitStack() as open_ones:
        came: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        while True:  # until the door is shut
            try:
                came.append(await asyncio.open_connection("127.0.0.1", port))
            except OSError:
                break
            open_ones.callback(came[-1][1].close)
            await asyncio.sleep(0.02)
        reader, writer = came[-3]
        writer.write(request)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer
        assert await leaving == 0
