"""A bare HTTP/1.1 exchange, for requests that no client library would send."""

import asyncio
import contextlib
from pathlib import Path

_ESTABLISHED = "01"


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


def server_holds(port: int, peer_port: int) -> bool:
    """Whether the server's end of a connection is open: its peer cannot tell when it has taken nothing (Linux)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)) == (port, peer_port):
            return state == _ESTABLISHED
    return False
