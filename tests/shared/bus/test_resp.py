"""One connection: bounded in what it takes in, ended by what it cannot read, and over exactly once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.bus import resp
from shared.bus.client import Endpoint
from tests.shared.bus.conftest import until


@asynccontextmanager
async def saying(*parts: bytes) -> AsyncIterator[Endpoint]:
    """A server that answers the greeting with the first part and anything after it with the rest."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for part in parts:
                await reader.read(100)
                writer.write(part)
                await writer.drain()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint(host="127.0.0.1", port=server.sockets[0].getsockname()[1])


@pytest.mark.parametrize("rubbish", [b"!?\r\n", b"$100000000\r\n" + b"x" * 9_000_000], ids=["no reply", "endless"])
async def test_input_that_makes_no_sense_or_has_no_end_ends_the_connection_once(rubbish: bytes) -> None:
    lost: list[bool] = []
    async with saying(b"%0\r\n", rubbish) as endpoint:
        connection = await resp.connect(
            endpoint, deadline_s=2, name="test", on_reply=lambda reply: None, on_lost=lambda: lost.append(True)
        )
        connection.write(b"go on")
        await until(lambda: bool(lost), "the connection ends")
        connection.abort()
        connection.write(b"into nowhere")
        await asyncio.sleep(0)
        assert lost == [True]
        assert not connection.is_open


async def test_a_refused_greeting_is_an_error_of_its_own_and_leaves_nothing_open() -> None:
    lost: list[bool] = []
    async with saying(b"-NOAUTH give a password\r\n") as endpoint:
        with pytest.raises(resp.RedisRefused, match="NOAUTH"):
            await resp.connect(
                endpoint, deadline_s=2, name="test", on_reply=lambda reply: None, on_lost=lambda: lost.append(True)
            )
    assert not lost


async def test_a_server_that_hangs_up_during_the_greeting_is_an_os_error() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        endpoint = Endpoint(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        with pytest.raises(OSError, match=r"closed|reset"):
            await resp.connect(endpoint, deadline_s=2, name="test", on_reply=lambda reply: None, on_lost=lambda: None)


async def test_replies_and_pushes_are_told_apart_and_batches_have_an_end() -> None:
    replies: list[object] = []
    pushes: list[object] = []
    ends: list[int] = []
    async with saying(b"%0\r\n", b":1\r\n>2\r\n+a\r\n+b\r\n:2\r\n") as endpoint:
        connection = await resp.connect(
            endpoint,
            deadline_s=2,
            name="test",
            on_reply=replies.append,
            on_push=pushes.append,
            on_batch_end=lambda: ends.append(len(replies)),
            on_lost=lambda: None,
        )
        connection.write(b"go on")
        await until(lambda: len(replies) == 2, "both replies")
        assert replies == [1, 2]
        assert pushes == [[b"a", b"b"]]
        assert ends[-1] == 2
        connection.abort()
