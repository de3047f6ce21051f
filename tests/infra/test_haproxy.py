"""The shipped proxy configuration in the real proxy, before small real hubs."""

import asyncio
import json
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from device.addresses import socket_url as device_url
from shared.hub_urls import socket_url
from shared.protocol.position import Position

PROTOCOL = Subprotocol("fleetwire.v1")
CONFIG = Path(__file__).parents[2] / "infra" / "haproxy" / "haproxy.cfg"
SESSIONS = 'haproxy_backend_current_sessions{proxy="hubs"} '
HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"

pytestmark = pytest.mark.skipif(not Path(HAPROXY).exists(), reason="haproxy is not installed (apt-get install haproxy)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Hub:
    """As much of a hub as a proxy sees: sockets that say whose they are, and a health check."""

    name: str
    port: int = field(default_factory=free_port)
    ops_port: int = field(default_factory=free_port)
    ready: bool = True
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    _servers: list[Server] = field(default_factory=list)

    async def start(self) -> None:
        self._servers = [
            await serve(
                self._on_socket,
                "127.0.0.1",
                self.port,
                subprotocols=[PROTOCOL],
                compression=None,
            ),
            await serve(self._on_socket, "127.0.0.1", self.ops_port, process_request=self._health),
        ]

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()
        self._servers = []

    @property
    def connections(self) -> int:
        return len(self._servers[0].connections)

    async def _on_socket(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.requests.append(connection.request.path)
        self.headers.append(dict(connection.request.headers.raw_items()))
        await connection.send(self.name)
        async for message in connection:
            await connection.send(message)

    def _health(self, connection: ServerConnection, request: Request) -> Response:
        assert request.path == "/ready"
        status = HTTPStatus.OK if self.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return connection.respond(status, "")


@dataclass
class Proxy:
    port: int
    ops_port: int
    hubs: dict[str, Hub]

    def url(self, device: str, hub: str | None = None) -> str:
        named = "" if hub is None else f"&hub={hub}"
        return f"ws://127.0.0.1:{self.port}/v1/socket?device_id={device}&after=1:0{named}"

    def connect(self, device: str, hub: str | None = None) -> connect:
        return connect(
            self.url(device, hub),
            subprotocols=[PROTOCOL],
            additional_headers={"Authorization": "Bearer x"},
            compression=None,
            proxy=None,
        )

    async def hub_of(self, device: str, hub: str | None = None, *, beside: int = 0) -> str:
        """Which hub the device comes to `beside` so many. The load is bounded, so one that is still leaving counts."""
        await self.until_sessions(beside)
        async with self.connect(device, hub) as connection:
            return str(await connection.recv())

    async def until_sessions(self, count: int) -> None:
        """Until the proxy has seen the end of the others."""
        async with httpx.AsyncClient(trust_env=False, verify=False) as client, asyncio.timeout(15):
            while True:
                metrics = (await client.get(f"http://127.0.0.1:{self.ops_port}/metrics")).text
                [line] = [one for one in metrics.splitlines() if one.startswith(SESSIONS)]
                if int(line.removeprefix(SESSIONS)) == count:
                    return
                await asyncio.sleep(0.01)

    async def is_up(self, name: str) -> bool:
        """What the proxy's health checks say of a hub."""
        async with httpx.AsyncClient(trust_env=False) as client:
            metrics = (await client.get(f"http://127.0.0.1:{self.ops_port}/metrics")).text
        return f'haproxy_server_status{{proxy="hubs",server="{name}",state="UP"}} 1' in metrics

    async def until_up(self, name: str, up: bool) -> None:
        async with asyncio.timeout(15):
            while await self.is_up(name) is not up:
                await asyncio.sleep(0.1)


def environment(hubs: list[Hub], port: int, ops_port: int) -> dict[str, str]:
    addresses = {f"HUB_{n}": f"127.0.0.1:{hub.port}" for n, hub in enumerate(hubs, 1)}
    checks = {f"HUB_{n}_OPS_PORT": str(hub.ops_port) for n, hub in enumerate(hubs, 1)}
    binds = {"SOCKETS_BIND": f"127.0.0.1:{port}", "OPERATIONS_BIND": f"127.0.0.1:{ops_port}"}
    return {"PATH": "/usr/sbin:/usr/bin:/bin", **addresses, **checks, **binds}


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    hubs = [Hub("hub-1"), Hub("hub-2")]
    for hub in hubs:
        await hub.start()
    port, ops_port = free_port(), free_port()
    with (tmp_path / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            [HAPROXY, "-db", "-f", str(CONFIG)], env=environment(hubs, port, ops_port), stdout=log, stderr=log
        )
    running = Proxy(port, ops_port, {hub.name: hub for hub in hubs})
    try:
        async with asyncio.timeout(15):
            while not await _answers(running):
                assert process.poll() is None, (tmp_path / "haproxy.log").read_text()
                await asyncio.sleep(0.05)
        yield running
    finally:
        process.kill()
        process.wait()
        for hub in hubs:
            await hub.stop()


async def _answers(proxy: Proxy) -> bool:
    try:
        return all([await proxy.is_up(name) for name in proxy.hubs])
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "hub-that-does-not-exist-yet"])
def test_the_configuration_is_valid_though_hubs_have_no_address_yet(host: str) -> None:
    environ = environment([Hub("hub-1"), Hub("hub-2")], 18100, 18405) | {"HUB_1": f"{host}:8101"}
    done = subprocess.run([HAPROXY, "-c", "-f", str(CONFIG)], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


async def test_a_device_always_comes_to_the_same_hub_and_devices_are_spread(proxy: Proxy) -> None:
    first = [await proxy.hub_of(f"truck-{n}") for n in range(40)]
    assert [await proxy.hub_of(f"truck-{n}") for n in range(40)] == first
    assert min(Counter(first).values()) >= 8, Counter(first)


async def test_the_hub_that_is_named_gets_the_device(proxy: Proxy) -> None:
    for n in range(10):
        for name in proxy.hubs:
            assert await proxy.hub_of(f"truck-{n}", hub=name) == name


async def test_the_address_that_the_api_and_hubs_give_leads_to_that_hub_as_the_sdk_asks_for_it(proxy: Proxy) -> None:
    for name in proxy.hubs:
        told = socket_url(name, "ws://not.used:1", f"ws://127.0.0.1:{proxy.port}")
        asked = device_url(told, device_id="truck-7", after=Position(1, 0), instance="i", attempt=1)
        await proxy.until_sessions(0)
        async with connect(asked, subprotocols=[PROTOCOL], compression=None, proxy=None) as connection:
            assert await connection.recv() == name


async def test_a_name_of_no_hub_means_the_hash(proxy: Proxy) -> None:
    for hub in ("hub-3", "", "%00", "hub-1%20", "hubs/hub-1", "x" * 500):
        for n in range(6):
            assert await proxy.hub_of(f"truck-{n}", hub=hub) == await proxy.hub_of(f"truck-{n}")


async def test_a_hub_that_died_is_replaced_at_once_whether_it_was_named_or_not(proxy: Proxy) -> None:
    await proxy.hubs["hub-1"].stop()
    # The first ones come before any health check has noticed.
    for n in range(10):
        assert await proxy.hub_of(f"truck-{n}", hub="hub-1") == "hub-2"
        assert await proxy.hub_of(f"truck-{n}") == "hub-2"
    await proxy.until_up("hub-1", False)
    assert await proxy.hub_of("truck-1", hub="hub-1") == "hub-2"


async def test_a_hub_that_is_not_ready_gets_no_new_device_and_keeps_those_it_has(proxy: Proxy) -> None:
    before = {f"truck-{n}": await proxy.hub_of(f"truck-{n}") for n in range(10)}
    async with proxy.connect("truck-old", hub="hub-1") as old:
        assert await old.recv() == "hub-1"
        proxy.hubs["hub-1"].ready = False
        await proxy.until_up("hub-1", False)
        for n in range(10):
            assert await proxy.hub_of(f"truck-{n}", beside=1) == "hub-2"
        assert await proxy.hub_of("truck-1", hub="hub-1", beside=1) == "hub-2"
        await old.send("still there")
        assert await old.recv() == "still there"
    # With few sockets the bound on a hub's share would decide, so the old one is closed first.
    proxy.hubs["hub-1"].ready = True
    await proxy.until_up("hub-1", True)
    assert {device: await proxy.hub_of(device) for device in before} == before


async def test_no_hub_gets_much_more_than_its_share_even_if_all_devices_hash_to_it(proxy: Proxy) -> None:
    devices = [f"truck-{n}" for n in range(120)]
    at_one = [device for device in devices if await proxy.hub_of(device) == "hub-1"][:40]
    async with AsyncExitStack() as stack:
        opened: list[ClientConnection] = []
        for device in at_one:
            opened.append(await stack.enter_async_context(proxy.connect(device)))
        names = Counter([str(await connection.recv()) for connection in opened])
        assert names["hub-1"] <= 1.25 * len(at_one) / 2 + 1, names
        # The bound is for those that come by hash; a hub that is named says itself when it is full.
        assert await proxy.hub_of(at_one[0], hub="hub-1", beside=len(at_one)) == "hub-1"


async def test_what_device_and_hub_say_to_each_other_is_passed_on_unchanged(proxy: Proxy) -> None:
    async with proxy.connect("truck-7", hub="hub-2") as connection:
        assert connection.subprotocol == "fleetwire.v1"
        await connection.recv()
        for message in ("text", "x" * 70_000, b"\x00binary"):
            await connection.send(message)
            assert await connection.recv() == message
    hub = proxy.hubs["hub-2"]
    assert hub.requests == ["/v1/socket?device_id=truck-7&after=1:0&hub=hub-2"]
    headers = {name.lower(): value for name, value in hub.headers[0].items()}
    assert headers["authorization"] == "Bearer x"
    assert headers["x-forwarded-for"] == "127.0.0.1"


async def test_without_a_hub_the_device_is_told_when_to_come_back(proxy: Proxy) -> None:
    for hub in proxy.hubs.values():
        hub.ready = False
    for name in proxy.hubs:
        await proxy.until_up(name, False)
    with pytest.raises(InvalidStatus) as caught:
        await proxy.hub_of("truck-7")
    answer = caught.value.response
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["type"] == "urn:fleetwire:problem:no-hub"
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{proxy.ops_port}/ready")).status_code == 503
        assert (await client.get(f"http://127.0.0.1:{proxy.ops_port}/health")).status_code == 200


async def test_the_containers_health_check_works(proxy: Proxy) -> None:
    compose = yaml.safe_load((CONFIG.parents[2] / "docker-compose.yml").read_text("utf-8"))
    command = compose["services"]["proxy"]["healthcheck"]["test"][1:]
    for port, healthy in ((proxy.ops_port, True), (free_port(), False)):
        arguments = [word.replace("/8405", f"/{port}") for word in command]
        check = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.DEVNULL)
        assert (await asyncio.wait_for(check.wait(), 5) == 0) is healthy


async def test_nothing_but_the_socket_is_reached_through_the_proxy(proxy: Proxy) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for path in ("/", "/ready", "/metrics", "/v1/socket/../metrics", "/v1/socket2"):
            assert (await client.get(f"http://127.0.0.1:{proxy.port}{path}")).status_code == 404
        assert (await client.get(f"http://127.0.0.1:{proxy.ops_port}/other")).status_code == 404
    assert [hub.requests for hub in proxy.hubs.values()] == [[], []]
