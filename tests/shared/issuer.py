"""Somebody who publishes a key set over HTTP, well or badly."""

import asyncio
import contextlib
import json
from hashlib import sha256
from typing import Any

from loadtests.ports import free_port


class Issuer:
    """`keys` is what it publishes; `broken` what it answers instead: a body, or a status alone."""

    def __init__(self, keys: Any) -> None:
        self.keys = keys
        self.broken: bytes | int | None = None
        self.cache_control: str | None = None
        self.statuses: list[int] = []
        self._port = free_port()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/keys"

    @property
    def requests(self) -> int:
        return len(self.statuses)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            status, body = 200, json.dumps(self.keys).encode()
            if isinstance(self.broken, int):
                status, body = self.broken, b""
            elif self.broken is not None:
                body = self.broken
            etag = f'"{sha256(body).hexdigest()[:16]}"'
            if status == 200 and f"if-none-match: {etag}" in head:
                status, body = 304, b""
            self.statuses.append(status)
            lines = [f"HTTP/1.1 {status} x", f"etag: {etag}", f"content-length: {len(body)}", "connection: close"]
            if self.cache_control:
                lines.append(f"cache-control: {self.cache_control}")
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
        writer.close()
