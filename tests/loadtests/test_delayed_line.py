"""A line in a process of its own."""

import asyncio
import time
from urllib.parse import urlsplit

from loadtests.delayed_line import delayed_line


async def test_bytes_come_back_after_two_delays() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with delayed_line(target, delay_s=0.1, window=64 * 1024) as url:
            async with asyncio.timeout(10):
                began = time.monotonic()
                reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
                writer.write(b"hello\n")
                assert await reader.read() == b"hello\n"
                assert time.monotonic() - began >= 0.2
                writer.close()
