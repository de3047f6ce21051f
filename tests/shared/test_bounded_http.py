import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from shared.asgi_server import AsgiServer
from shared.bounded_http import abort, bounded_http

Start = Callable[..., AbstractAsyncContextManager[int]]
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers `path` bytes; cuts itself off in the middle when asked to."""
    size = int(scope["path"].strip("/") or 2)
    headers = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["query_string"] == b"cut":
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        abort(scope)
    for start in range(0, size, 65536):
        part = b"x" * min(65536, size - start)
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def start() -> Start:
    @asynccontextmanager
    async def started(connections_max: int = 10, head_s: float = 5.0, stall_s: float = 5.0) -> AsyncIterator[int]:
        http = bounded_http(connections_max=connections_max, head_s=head_s, stall_s=stall_s)
        server = AsgiServer(app, "127.0.0.1", 0, setting="(test)", close_s=1.0, http=http, ws="none")
        await server.start()
        yield server.port
        await server.close()

    return started


async def answer_to(port: int, *sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in sent:
        writer.write(part)
        await writer.drain()
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


def problem(answer: bytes) -> tuple[bytes, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    return head[9:12], str(json.loads(body)["type"])


async def test_a_request_is_answered(start: Start) -> None:
    async with start() as port:
        answer = await answer_to(port, b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"\r\n\r\nxxx")


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: "])
async def test_a_head_that_does_not_come_ends_the_connection(start: Start, sent: bytes) -> None:
    async with start(head_s=0.05) as port:
        assert await answer_to(port, sent) == b""


async def test_so_does_a_later_head(start: Start) -> None:
    async with start(head_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await reader.readuntil(b"xx")
        writer.write(b"GET /")
        # Well before uvicorn would end it for being idle.
        async with asyncio.timeout(2):
            assert await reader.read() == b""
        writer.close()


async def test_the_rest_of_a_body_that_nobody_reads_must_end_too(start: Start) -> None:
    async with start(head_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")

        async def go_on() -> None:
            while True:
                writer.write(b"x" * 1000)
                await writer.drain()
                await asyncio.sleep(0.005)

        async with asyncio.timeout(5):
            with pytest.raises(ConnectionError):
                await go_on()
        writer.close()


async def test_one_connection_too_many_is_told_so(start: Start) -> None:
    async with start(connections_max=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        assert problem(await answer_to(port)) == (b"503", "urn:fleetwire:problem:unavailable")
        writer.close()


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\r\n\r\n", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 70_000])
async def test_what_is_no_http_gets_a_problem(start: Start, sent: bytes) -> None:
    async with start() as port:
        assert problem(await answer_to(port, sent)) == (b"400", "urn:fleetwire:problem:invalid-request")


async def test_a_peer_that_takes_nothing_is_cut_and_a_slow_one_is_not(start: Start) -> None:
    async with start(stall_s=0.5) as port:
        size = 30_000_000
        readers = [await asyncio.open_connection("127.0.0.1", port, limit=1024) for _ in range(2)]
        for _, writer in readers:
            writer.write(b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % size)
        slow = readers[1][0]
        received = 0
        # Several times the stall time in all, but never nothing for so long.
        while piece := await slow.read(size // 200):
            received += len(piece)
            await asyncio.sleep(0.01)
        assert received > size
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await readers[0][0].readexactly(size)
        for _, writer in readers:
            writer.close()


async def test_an_aborted_answer_does_not_look_whole(start: Start) -> None:
    async with start() as port:
        answer = await answer_to(port, b"GET /100 HTTP/1.1\r\nHost: x\r\n\r\n".replace(b"/100", b"/100?cut"))
        assert len(answer.partition(b"\r\n\r\n")[2]) < 100
