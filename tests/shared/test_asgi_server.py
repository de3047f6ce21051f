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


async def slow(request: Request) -> PlainTextResponse:
    await asyncio.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("done")


APP = Starlette(routes=[Route("/slow", slow)])


async def test_it_takes_a_free_port_and_leaves_the_signals_alone() -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    server = AsgiServer(APP, "127.0.0.1", 0, setting="FLEETWIRE_X_PORT")
    await server.start()
    try:
        assert server.port > 0
        assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == before
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{server.port}/slow?seconds=0")).text == "done"
    finally:
        await server.close()
        await server.close()


async def test_a_busy_port_is_named_with_the_setting_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortBusy, match=rf"127\.0\.0\.1:{port}.*FLEETWIRE_X_PORT"):
            await AsgiServer(APP, "127.0.0.1", port, setting="FLEETWIRE_X_PORT").start()


async def test_closing_lets_an_open_request_end() -> None:
    server = AsgiServer(APP, "127.0.0.1", 0, setting="FLEETWIRE_X_PORT", close_s=3)
    await server.start()
    async with httpx.AsyncClient() as client:
        request = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/slow?seconds=0.3"))
        await asyncio.sleep(0.1)
        await server.close()
        assert (await request).text == "done"


async def test_closing_does_not_wait_for_ever() -> None:
    server = AsgiServer(APP, "127.0.0.1", 0, setting="FLEETWIRE_X_PORT", close_s=0.2)
    await server.start()
    async with httpx.AsyncClient() as client:
        request = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/slow?seconds=30"))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            await server.close()
        await asyncio.wait([request], timeout=2)
        assert request.done()
        assert request.exception() is not None or request.result().status_code == 500
