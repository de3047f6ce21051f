"""A real gateway on a real socket, with the addresses that admit to it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from files.gateway import Gateway, Limits
from files.transfers import Transfers
from shared import clock
from shared.asgi_server import AsgiServer
from shared.bounded_http import bounded_http
from shared.cloud.local import LocalStore
from shared.cloud.provider import Provider
from shared.signed_urls import Method, SignedUrls, host_of

KEYS = {"k1": b"1" * 32}
LIMITS = Limits(upload_max_bytes=10**9, stall_s=5.0, transfer_min_s=20.0, bytes_per_s_min=1024, transfer_max_s=3600.0)


@dataclass(frozen=True)
class Running:
    """One gateway, and how to reach it."""

    gateway: Gateway
    transfers: Transfers
    store: LocalStore
    root: Path
    tmp: Path
    port: int
    signer: SignedUrls
    client: httpx.AsyncClient
    server: AsgiServer

    def connections(self) -> int:
        """How many the server holds open."""
        inner = self.server._server
        return len(inner.server_state.connections) if inner is not None else 0

    def url(self, method: Method, path: str, content: bytes = b"", **options: object) -> str:
        """A signed address for this content."""
        given = {"size": len(content), "sha256": sha256(content).hexdigest(), "lifetime_s": 60.0, "now": clock.wall()}
        return self.signer.sign(method, path, **(given | options))  # type: ignore[arg-type]

    def put_file(self, path: str, content: bytes) -> None:
        """Into the cloud folder, as somebody else would."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)

    def drafts(self) -> list[str]:
        """What lies in the folder for drafts."""
        return [file.name for file in self.tmp.iterdir()]

    async def connect(self, url: str, *head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection on which a request's head was sent; `head` is its method and headers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        parts = urlsplit(url)
        lines = [f"{head[0]} {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}", *head[1:], "", ""]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        return reader, writer

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Wait for something that no signal tells of."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a gateway; keywords change its limits, `transfers_max`, `head_s`, `stall_write_s` and `elsewhere`."""
    numbers = itertools.count()

    @asynccontextmanager
    async def started(
        *,
        transfers_max: int = 16,
        head_s: float = 5.0,
        stall_write_s: float = 5.0,
        elsewhere: Mapping[str, Provider] | None = None,
        **limits: float,
    ) -> AsyncIterator[Running]:
        base = tmp_path / f"gateway {next(numbers)}"
        (base / "cloud").mkdir(parents=True)
        store = LocalStore(base / "cloud", base / "tmp")
        transfers = Transfers(transfers_max)
        bounds = replace(LIMITS, **limits)  # type: ignore[arg-type]
        gateway = Gateway(store, KEYS, transfers, bounds, elsewhere)
        http = bounded_http(connections_max=50, head_s=head_s, stall_s=stall_write_s)
        server = AsgiServer(gateway, "127.0.0.1", 0, setting="(test)", close_s=1.0, http=http, ws="none")
        await server.start()
        url = f"http://127.0.0.1:{server.port}"
        gateway.host = host_of(url)
        try:
            async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
                yield Running(
                    gateway,
                    transfers,
                    store,
                    base / "cloud",
                    base / "tmp",
                    server.port,
                    SignedUrls(KEYS, url),
                    client,
                    server,
                )
        finally:
            await transfers.leave(0)
            await server.close()
            await store.close()

    return started


@pytest.fixture
async def running(start: Start) -> AsyncIterator[Running]:
    """A gateway with the usual limits."""
    async with start() as one:
        yield one
