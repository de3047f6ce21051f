"""An ASGI server that leaves signals alone and can be started and closed inside a process."""

import asyncio
import signal
import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shared.asgi_server import AsgiServer, PortBusy


class Held:
    """An application whose requests begin, and end when they may."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.app = Starlette(routes=[Route("/held", self.answer)])

    async def answer(self, request: Request) -> PlainTextResponse:
        self.begun.set()
        await self.may_end.wait()
        return PlainTextResponse("done")


@pytest.fixture
def held() -> Held:
    return Held()


async def test_it_takes_a_free_port_and_leaves_the_signals_alone(held: Held) -> None:
    held.may_end.set()
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    server = AsgiServer(held.app, "127.0.0.1", 0, setting="FLEETWIRE_X_PORT")
    await server.start()
    try:
        assert server.port > 0
        assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == before
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{server.port}/held")).text == "done"
    finally:
        await server.close()
        await server.close()


async def test_a_busy_port_is_named_with_the_setting_that_moves_it(held: Held) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortBusy, match=rf"127\.0\.0\.1:{port}.*FLEETWIRE_X_PORT"):
            await AsgiServer(held.app, "127.0.0.1", port, setting="FLEETWIRE_X_PORT").start()


async def test_closing_lets_an_open_request_end(held: Held) -> None:
    server = AsgiServer(held.app, "127.0.0.1", 0, setting="FLEETWIRE_X_PORT", close_s=20)
    await server.start()
    async with httpx.AsyncClient(timeout=30) as client:
        request = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/held"))
        async with asyncio.timeout(20):
            await held.begun.wait()
        closing = asyncio.create_task(server.close())
        async with asyncio.timeout(20):
            while not await refused(server.port):
                await asyncio.sleep(0.01)
        assert not closing.done()
        held.may_end.set()
        assert (await request).text == "done"
        await closing


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def test_closing_does_not_wait_for_ever(held: Held) -> None:
    server = AsgiServer(held.app, "127.0.0.1", 0, setting="FLEETWIRE_X_PORT", close_s=0.2)
    await server.start()
    async with httpx.AsyncClient(timeout=30) as client:
        request = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/held"))
        async with asyncio.timeout(20):
            await held.begun.wait()
            await server.close()
        await asyncio.wait([request], timeout=20)
        assert request.done()
        assert request.exception() is not None or request.result().status_code == 500
