"""Where the API sends devices: `GET …/connection` for each, as the SDK asks, at most so many at a time.

Only the addresses are used: driven devices come with their own token, which a hub takes as well as a ticket. When a hub
dies, hundreds ask in the same second, so this speaks just enough HTTP to cost little beside the API that answers.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

__all__ = ["Assignments"]

AT_ONCE: Final = 32
DEADLINE_S: Final = 5.0

_Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Assignments:
    """Asks `api` with the token that `token` gives for the device. Connections are kept and used again."""

    def __init__(self, api: str, token: Callable[[str], str]) -> None:
        parts = urlsplit(api)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._token = token
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._idle: list[_Line] = []

    async def ask(self, device_id: str) -> Sequence[str]:
        """Socket addresses, best first. Raises OSError when there is none now."""
        request = (
            f"GET /api/v1/devices/{device_id}/connection HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Authorization: Bearer {self._token(device_id)}\r\n\r\n"
        ).encode()
        async with self._gate:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    status, body = await self._answer(request)
            except (TimeoutError, EOFError, ValueError) as error:
                raise OSError(f"the API cannot be asked: {error!r}") from error
        if status != 200:
            raise OSError(f"no hub assigned: HTTP {status} {body[:200]!r}")
        found = json.loads(body)
        return [found["url"], *(one["url"] for one in found["alternatives"])]

    async def _answer(self, request: bytes) -> tuple[int, bytes]:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, _, length = head.partition(b"\ncontent-length:")
            body = await reader.readexactly(int(length.split(b"\r", 1)[0]))
        except BaseException:
            writer.transport.abort()
            raise
        if b"\nconnection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split(b" ", 2)[1]), body

    async def close(self) -> None:
        """Ask no more."""
        for _, writer in self._idle:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._idle), return_exceptions=True)
        self._idle = []
