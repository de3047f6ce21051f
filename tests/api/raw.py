"""A bare HTTP/1.1 exchange, for requests that no client library would send."""

import asyncio
import contextlib


async def exchange(port: int, *parts: bytes, deadline_s: float = 10) -> bytes:
    """Send the parts, one after another, and read until the server closes."""
    async with asyncio.timeout(deadline_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
