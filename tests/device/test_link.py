"""What one socket takes: compressed frames as well as plain ones, and no more than its bound, however small it came."""

import asyncio
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from device.link import Link, LinkClosed, open_link
from device.timing import Timing

FAST = Timing().faster(5)
EVENT = b'{"type":"event","seq":1,"event":{"id":"e1","data":"' + b"0123456789" * 200 + b'"}}'
FRAME_MAX = 512 * 1024


@asynccontextmanager
async def server(handle: Callable[[ServerConnection], Awaitable[None]], *, deflate: bool = True) -> AsyncIterator[str]:
    shared = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    running = await serve(
        handle,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol("fleetwire.v1")],
        compression=None,
        extensions=[shared] if deflate else None,
        close_timeout=0.5,
    )
    async with running:
        yield f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/v1/socket"


def deflated(text: bytes) -> bytes:
    """A message as a hub compresses it once for all its receivers: no context before it, none kept after it."""
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (squeeze.compress(text) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


def frame_of(payload: bytes) -> bytes:
    plain = bytearray(Frame(Opcode.TEXT, payload).serialize(mask=False))
    plain[0] |= 0x40  # RSV1: compressed
    return bytes(plain)


async def opened(url: str) -> Link:
    return await open_link(url, "token-1", timing=FAST)


async def test_frames_compressed_once_for_many_are_taken_beside_plain_ones() -> None:
    agreed: list[PerMessageDeflate] = []
    same = frame_of(deflated(EVENT))
    assert len(same) < len(EVENT) / 10

    async def handle(socket: ServerConnection) -> None:
        agreed.extend(one for one in socket.protocol.extensions if isinstance(one, PerMessageDeflate))
        for _ in range(3):
            socket.transport.write(same)
            socket.transport.write(Frame(Opcode.TEXT, b"plain").serialize(mask=False))
        await socket.wait_closed()

    async with server(handle) as url:
        for _ in range(2):
            link = await opened(url)
            assert [await link.receive() for _ in range(6)] == [EVENT, b"plain"] * 3
            await link.close(1000, "done")
    assert all(one.local_no_context_takeover for one in agreed)
    assert len(agreed) == 2


async def test_a_hub_without_compression_is_as_good() -> None:
    async def handle(socket: ServerConnection) -> None:
        await socket.send(EVENT.decode())
        await socket.wait_closed()

    async with server(handle, deflate=False) as url:
        link = await opened(url)
        assert await link.receive() == EVENT
        await link.close(1000, "done")


@pytest.mark.parametrize("size", [FRAME_MAX, FRAME_MAX + 1, 100 * 1024 * 1024])
async def test_a_frame_is_bounded_by_what_it_is_when_inflated(size: int) -> None:
    bomb = frame_of(deflated(b'"' + b"x" * (size - 2) + b'"'))
    said: list[int] = []

    async def handle(socket: ServerConnection) -> None:
        socket.transport.write(bomb)
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            said.append(closed.rcvd.code if closed.rcvd is not None else 0)

    async with server(handle) as url:
        link = await opened(url)
        tracemalloc.start()
        try:
            if size <= FRAME_MAX:
                assert len(await link.receive()) == size
            else:
                with pytest.raises(LinkClosed):
                    await link.receive()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 * FRAME_MAX + 2 * len(bomb)
        await link.close(1000, "done")
        async with asyncio.timeout(10):
            while not said:
                await asyncio.sleep(0.01)
    assert said == [1000 if size <= FRAME_MAX else 1009]


async def test_a_frame_that_does_not_inflate_closes_the_socket() -> None:
    async def handle(socket: ServerConnection) -> None:
        socket.transport.write(frame_of(b"\xff\xff\xff nonsense"))
        await socket.wait_closed()

    async with server(handle) as url:
        link = await opened(url)
        with pytest.raises(LinkClosed):
            await link.receive()
