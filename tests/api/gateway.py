"""A files gateway on a real port, for the API to send devices to and to ask."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from files.gateway import Gateway, Limits
from files.transfers import Transfers
from shared.asgi_server import AsgiServer
from shared.bounded_http import bounded_http
from shared.cloud.local import LocalStore
from shared.keys import read_hmac_keys
from shared.signed_urls import host_of
from tests.api.conftest import FILES_KEYS

_LIMITS = Limits(upload_max_bytes=10**9, stall_s=5.0, transfer_min_s=20.0, bytes_per_s_min=1024, transfer_max_s=3600.0)


@dataclass(frozen=True)
class RunningGateway:
    url: str
    root: Path
    server: AsgiServer

    def photos(self) -> list[Path]:
        """What was uploaded and is there."""
        return sorted(path for path in (self.root / "Photos").rglob("*") if path.is_file())


@asynccontextmanager
async def running_gateway(folder: Path, *, public_url: str | None = None) -> AsyncIterator[RunningGateway]:
    """With the secrets that the API signs with; `public_url` is what it is reached at, if not its own address."""
    root = folder / "cloud"
    root.mkdir(parents=True, exist_ok=True)
    store = LocalStore(root, folder / "cloud-tmp")
    transfers = Transfers(16)
    gateway = Gateway(store, read_hmac_keys(None, FILES_KEYS), transfers, _LIMITS)
    http = bounded_http(connections_max=50, head_s=5.0, stall_s=5.0)
    server = AsgiServer(gateway, "127.0.0.1", 0, setting="(test)", close_s=1.0, http=http, ws="none")
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    gateway.host = host_of(public_url or url)
    try:
        yield RunningGateway(url, root, server)
    finally:
        await transfers.leave(0)
        await server.close()
        await store.close()
