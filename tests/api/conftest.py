"""A real API on a real port, in the test's own loop or as a process, and clients with tokens of all kinds."""

import asyncio
import base64
import json
import os
import secrets
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from api.app import Keys, serve
from api.settings import Settings
from loadtests.ports import free_port
from shared.lifecycle import Stop
from shared.settings import load
from shared.store import pool as store_pool
from shared.store.hubs import HubRow, heartbeat
from shared.store.log import Appended, NewEvent, append_committed
from shared.store.pool import Pool
from shared.tokens import KeyRing


def oct_key_set(*kids: str, alg: str = "HS256") -> str:
    """A key set of fresh secrets."""
    keys = [
        {
            "kty": "oct",
            "kid": kid,
            "alg": alg,
            "k": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("="),
        }
        for kid in kids
    ]
    return json.dumps({"keys": keys})


TOKEN_KEYS = oct_key_set("tokens-1")
TICKET_KEYS = oct_key_set("tickets-1")
FILES_KEYS = oct_key_set("files-1")
RING = KeyRing.from_jwks(TOKEN_KEYS)
TICKET_RING = KeyRing.from_jwks(TICKET_KEYS)


# Made once: reading the certificates of a context takes longer than most of these tests.
_TLS = ssl.create_default_context()


def http_client(**options: Any) -> httpx.AsyncClient:
    """A client that heeds nothing of the machine it runs on."""
    return httpx.AsyncClient(verify=_TLS, trust_env=False, **options)


def token(subject: str, scope: str = "device", *, lifetime_s: float = 600, device_class: str | None = None) -> str:
    return RING.mint(
        subject=subject,
        scopes=frozenset(scope.split()),
        now=time.time(),
        lifetime_s=lifetime_s,
        device_class=device_class,
    )


@dataclass
class RunningApi:
    """One API instance. `client()` speaks to it as somebody."""

    settings: Settings
    stop: Stop
    task: "asyncio.Task[int]"
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.ops_port}"

    def client(self, bearer: str | None = None, **headers: str) -> httpx.AsyncClient:
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        client = http_client(base_url=self.url, headers=headers, timeout=30)
        self.clients.append(client)
        return client

    def device(self, device_id: str) -> httpx.AsyncClient:
        return self.client(token(device_id))

    @property
    def operator(self) -> httpx.AsyncClient:
        return self.client(token("olga", "operator"))

    @property
    def service(self) -> httpx.AsyncClient:
        return self.client(token("billing", "service"))

    async def leave(self) -> int:
        self.stop.request("test")
        async with asyncio.timeout(20):
            return await self.task


def api_environment(database_url: str, redis_url: str, **more: Any) -> dict[str, str]:
    return {
        "FLEETWIRE_DATABASE_URL": database_url,
        "FLEETWIRE_REDIS_URL": redis_url,
        "FLEETWIRE_TOKEN_KEYS": TOKEN_KEYS,
        "FLEETWIRE_TICKET_KEYS": TICKET_KEYS,
        "FLEETWIRE_FILES_KEYS": FILES_KEYS,
        "FLEETWIRE_API_PORT": str(free_port()),
        "FLEETWIRE_OPS_PORT": str(free_port()),
        "FLEETWIRE_DB_POOL_MIN": "1",
        "FLEETWIRE_DB_POOL_MAX": "4",
        # Tests ask faster than people do; those of the limits switch them on.
        "FLEETWIRE_API_RATE_LIMITS": "off",
        # A busy machine and four connections: requests wait long without anything being wrong.
        "FLEETWIRE_API_SHED_TARGET_S": "0",
        "FLEETWIRE_API_DRAIN_S": "0",
        "FLEETWIRE_API_FINISH_S": "2",
        "FLEETWIRE_API_PROBE_S": "0.1",
        "FLEETWIRE_API_POLL_PERIOD_S": "0.02",
        "FLEETWIRE_API_HUBS_AGE_S": "0",
        **{name: str(value) for name, value in more.items()},
    }


StartApi = Callable[..., Awaitable[RunningApi]]


@pytest.fixture
async def start_api(database_url: str, redis_url: str) -> AsyncIterator[StartApi]:
    """Starts instances in this loop; they share the test's database."""
    running: list[RunningApi] = []

    async def start(*, wait: bool = True, **more: Any) -> RunningApi:
        environment = api_environment(database_url, redis_url) | {name: str(value) for name, value in more.items()}
        settings = load(Settings, environment)
        stop = Stop()
        api = RunningApi(settings, stop, asyncio.create_task(serve(settings, Keys(settings), stop)))
        running.append(api)
        if wait:
            await until_ready(api)
        return api

    yield start
    for api in running:
        for client in api.clients:
            await client.aclose()
        if not api.task.done():
            await api.leave()


@pytest.fixture
async def api(start_api: StartApi) -> RunningApi:
    return await start_api()


async def until_ready(api: RunningApi, *, ready: bool = True) -> None:
    async with asyncio.timeout(15), http_client() as client:
        while True:
            if api.task.done():
                raise AssertionError(f"the API ended with {api.task.result()}")
            try:
                if (await client.get(f"{api.url}/ready")).is_success is ready:
                    return
            except httpx.TransportError:
                if not ready:
                    return
            await asyncio.sleep(0.01)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await store_pool.open_pool(database_url, name="test", max_size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def record(pool: Pool, device_id: str, *names: str) -> list[Appended]:
    """Record events named so."""
    return await append_committed(
        pool,
        [
            NewEvent(device_id, name, "Test", json.dumps({"id": name, "data": {}}).encode(), name.encode())
            for name in names
        ],
    )


async def hub(pool: Pool, name: str, *, connections: int = 0, capacity: int = 500, draining: bool = False) -> None:
    """A live hub of this name."""
    await heartbeat(pool, HubRow(name, f"{name}-run", f"ws://{name}.test:8101", connections, capacity, draining))


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem a response is, checked for its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:fleetwire:problem:{slug}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body


class ApiProcess:
    """`python -m api` as a process of its own, to be signalled."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.environment = environment
        self.log = log
        self.url = f"http://127.0.0.1:{environment['FLEETWIRE_API_PORT']}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "api",
                env=inherited | self.environment | {"FLEETWIRE_PARENT_PID": str(os.getpid())},
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> None:
        assert self.process is not None
        async with asyncio.timeout(20), http_client() as client:
            while True:
                assert self.process.returncode is None, self.log.read_text()
                try:
                    if (await client.get(f"{self.url}/ready")).is_success:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.02)

    async def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signum)
        async with asyncio.timeout(25):
            return await self.process.wait()
