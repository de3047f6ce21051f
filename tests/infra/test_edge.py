"""The proxy of a whole fleet, as shipped, in the real program: who may ask what, and where it is led to."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

EDGE = Path(__file__).parents[2] / "infra" / "haproxy" / "edge"
HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"
PROTOCOL = Subprotocol("fleetwire.v1")
HEAD_MAX = 16 * 1024
HOSTS = {"api": "api.example.com", "sockets": "sockets.example.com", "files": "files.example.com"}

pytestmark = pytest.mark.skipif(not Path(HAPROXY).exists(), reason="haproxy is not installed (apt-get install haproxy)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certificate(folder: Path) -> Path:
    """As Kubernetes lays it down: tls.crt, and the key in tls.key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS.values()]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return folder / "tls.crt"


@dataclass
class Behind:
    """An API or a gateway, as much of it as a proxy sees: it is ready, and tells what it was asked."""

    name: str
    port: int = 0
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _clients: set["asyncio.Task[None]"] = field(default_factory=set)

    async def start(self) -> None:
        def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._on_client(reader, writer))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

        self._server = await asyncio.start_server(on_client, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rest = head.strip().split("\r\n")
                headers = {name.lower(): value for name, value in (item.split(": ", 1) for item in rest)}
                await reader.readexactly(int(headers.get("content-length", 0)))
                if not line.startswith("GET /ready "):
                    self.asked.append((line, headers))
                body = json.dumps({"by": self.name}).encode()
                status = "400 Bad Request" if "/refused" in line else "200 OK"
                answer = f"HTTP/1.1 {status}\r\nServer: inside\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(answer.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@dataclass
class Edge:
    port: int
    plain: int
    operations: int
    api: Behind
    files: Behind
    hubs: dict[str, list[str]]

    async def ask(
        self,
        path: str = "/api/v1/jobs",
        *,
        host: str = "api",
        method: str = "GET",
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=10) as client:
            named = {"Host": HOSTS.get(host, host)} | (headers or {})
            url = f"https://127.0.0.1:{self.port}"
            # As it is: the client would tidy the path up.
            exact = {"target": path.encode()}
            return await client.request(method, url, headers=named, content=content, extensions=exact)

    async def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes, until the proxy closes or half a second passes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=_no_checks())
        writer.write(data)
        await writer.drain()
        try:
            async with asyncio.timeout(5):
                return await reader.readuntil(b"\r\n")
        finally:
            writer.close()

    def connect(self, host: str = "sockets", query: str = "device_id=truck-7", headers: object = None) -> connect:
        return connect(
            f"wss://{HOSTS[host]}:{self.port}/v1/socket?{query}",
            host="127.0.0.1",
            port=self.port,
            ssl=_no_checks(),
            subprotocols=[PROTOCOL],
            compression=None,
            proxy=None,
            additional_headers=headers,  # type: ignore[arg-type]
        )


def _no_checks() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def environment(folder: Path, **own: object) -> dict[str, str]:
    given = {
        "PATH": "/usr/sbin:/usr/bin:/bin",
        "EDGE_CERTIFICATE": folder / "tls.crt",
        "EDGE_TRUSTED_PROXIES": EDGE / "trusted-proxies.lst",
        "EDGE_CONNECTIONS": 1000,
        "EDGE_REQUESTS_PER_10S": 1000,
        "EDGE_ERRORS_PER_MINUTE": 1000,
        "EDGE_API_HOST": HOSTS["api"],
        "EDGE_SOCKETS_HOST": HOSTS["sockets"],
        "EDGE_FILES_HOST": HOSTS["files"],
        "EDGE_API_INSTANCES": 1,
        "EDGE_FILES_INSTANCES": 1,
        "EDGE_DOMAIN": "fleetwire.svc.cluster.local",
    }
    return {name: str(value) for name, value in (given | own).items()}


@asynccontextmanager
async def running(folder: Path, **own: object) -> AsyncIterator[Edge]:
    certificate(folder)
    api, files = Behind("api"), Behind("files")
    await api.start()
    await files.start()
    hubs: dict[str, list[str]] = {"hub-1": [], "hub-2": []}
    servers: dict[str, Server] = {}
    for name, seen in hubs.items():

        async def on_socket(connection: ServerConnection, name: str = name, seen: list[str] = seen) -> None:
            assert connection.request is not None
            seen.append(str(connection.request.headers["X-Forwarded-For"]))
            await connection.send(name)
            await connection.wait_closed()

        servers[name] = await serve(on_socket, "127.0.0.1", 0, subprotocols=[PROTOCOL], compression=None)
    # The shipped rules for hubs, with these in place of those of docker-compose.production.yml.
    rules = [
        line for line in (EDGE / "hubs-compose.cfg").read_text().splitlines() if not line.startswith("    server ")
    ]
    for name, server in servers.items():
        port = server.sockets[0].getsockname()[1]
        rules.append(f"    server {name} 127.0.0.1:{port} port {api.port}")
    (folder / "hubs.cfg").write_text("\n".join(rules) + "\n")
    edge = Edge(free_port(), free_port(), free_port(), api, files, hubs)
    environ = environment(
        folder,
        EDGE_BIND=f"127.0.0.1:{edge.port}",
        EDGE_PLAIN_BIND=f"127.0.0.1:{edge.plain}",
        EDGE_OPERATIONS_BIND=f"127.0.0.1:{edge.operations}",
        EDGE_API=f"127.0.0.1:{api.port}",
        EDGE_API_OPS_PORT=api.port,
        EDGE_FILES=f"127.0.0.1:{files.port}",
        EDGE_FILES_OPS_PORT=files.port,
        **own,
    )
    with (folder / "log").open("wb") as log:
        command = [HAPROXY, "-db", "-f", str(EDGE / "edge.cfg"), "-f", str(folder / "hubs.cfg")]
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    metrics = (await client.get(f"http://127.0.0.1:{edge.operations}/metrics")).text
                except httpx.TransportError:
                    metrics = ""
                if metrics.count('state="UP"} 1') >= 4:
                    break
                await asyncio.sleep(0.05)
        yield edge
    finally:
        process.kill()
        process.wait()
        for server in servers.values():
            server.close()
        await api.stop()
        await files.stop()


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running(tmp_path) as made:
        yield made


@pytest.mark.parametrize("hubs", ["hubs-compose.cfg", "hubs-kubernetes.cfg"])
def test_the_configuration_is_valid_though_nothing_has_an_address_yet(hubs: str, tmp_path: Path) -> None:
    certificate(tmp_path)
    environ = environment(
        tmp_path,
        EDGE_BIND=":8443",
        EDGE_PLAIN_BIND=":8080",
        EDGE_OPERATIONS_BIND=":8405",
        EDGE_API="fleetwire-api.fleetwire.svc.cluster.local:8080",
        EDGE_API_OPS_PORT=9000,
        EDGE_API_INSTANCES=20,
        EDGE_FILES="fleetwire-files.fleetwire.svc.cluster.local:8090",
        EDGE_FILES_OPS_PORT=9400,
    )
    command = [HAPROXY, "-c", "-f", str(EDGE / "edge.cfg"), "-f", str(EDGE / hubs)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr


async def test_each_name_leads_where_it_should_and_a_device_to_the_hub_that_was_named(edge: Edge) -> None:
    assert (await edge.ask()).json() == {"by": "api"}
    assert (await edge.ask("/photos/a%20name%252.jpg?x=%2F", host="files")).json() == {"by": "files"}
    for name in edge.hubs:
        async with edge.connect(query=f"device_id=truck-7&hub={name}") as device:
            assert await device.recv() == name
            assert device.subprotocol == PROTOCOL
    async with edge.connect() as device:
        assert await device.recv() in edge.hubs
    # Names in capitals and with a port are the same names.
    assert (await edge.ask(host=f"API.Example.com:{edge.port}")).json() == {"by": "api"}


async def test_what_comes_in_the_clear_is_sent_to_tls_and_a_token_in_it_is_refused(edge: Edge) -> None:
    url = f"http://127.0.0.1:{edge.plain}/docs?x=1"
    async with httpx.AsyncClient(trust_env=False) as client:
        moved = await client.get(url, headers={"Host": HOSTS["api"]})
        assert (moved.status_code, moved.headers["location"]) == (308, f"https://{HOSTS['api']}/docs?x=1")
        assert (await client.get(url, headers={"Authorization": "Bearer x"})).status_code == 403
        assert (await client.post(url)).status_code == 403
    assert edge.api.asked == []


NEVER_SENT: list[tuple[str, str, dict[str, str], int]] = [
    ("/api/v1/../metrics", "GET", {}, 400),
    ("/api/./v1", "GET", {}, 400),
    ("/api/%2e%2e/metrics", "GET", {}, 400),
    ("/api//v1", "GET", {}, 400),
    ("/api/v1/devices/%74ruck", "GET", {}, 400),
    ("/api/v1/x%00", "GET", {}, 400),
    ("/api/v1/x%0d%0aSet-Cookie:%20a", "GET", {}, 400),
    ("/api/v1/a\\b", "GET", {}, 400),
    ("/api/v1/jobs?name=" + "x" * 5000, "GET", {}, 400),
    ("/api/v1/jobs", "TRACE", {}, 405),
    ("/api/v1/jobs", "PROPFIND", {}, 405),
    ("/metrics", "GET", {}, 404),
    ("/.git/config", "GET", {}, 404),
    ("/wp-login.php", "GET", {}, 404),
    ("/api/v1/jobs", "GET", {"X-Original-URL": "/metrics"}, 400),
    ("/api/v1/jobs", "GET", {"X-HTTP-Method-Override": "DELETE"}, 400),
    ("/v1/socket", "POST", {}, 405),
]


async def test_what_no_client_of_ours_sends_never_comes_in(edge: Edge) -> None:
    answers = [
        (path, (await edge.ask(path, method=method, headers=headers)).status_code)
        for path, method, headers, _ in NEVER_SENT
    ]
    assert answers == [(path, status) for path, _, _, status in NEVER_SENT]
    assert edge.api.asked == []


async def test_a_strangers_name_and_half_a_request_come_nowhere(edge: Edge) -> None:
    assert (await edge.ask(host="evil.example.net")).status_code == 421
    assert (await edge.ask(host="sockets")).status_code == 404
    start = f"POST /api/v1/events HTTP/1.1\r\nHost: {HOSTS['api']}\r\n"
    for smuggled in (
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "X-Long: " + "x" * HEAD_MAX + "\r\n\r\n",
        "".join(f"X-{n}: y\r\n" for n in range(70)) + "\r\n",
        "Bad Header\r\n\r\n",
        "Content-Length: 99999999\r\n\r\n",
    ):
        answer = await edge.raw((start + smuggled).encode())
        assert answer.startswith(b"HTTP/1.1 4"), (smuggled[:60], answer)
    assert edge.api.asked == []


async def test_only_a_trusted_proxy_says_whose_request_it_is(edge: Edge, tmp_path: Path) -> None:
    told = {"X-Forwarded-For": "203.0.113.7", "X-Real-IP": "203.0.113.7", "Forwarded": "for=203.0.113.7"}
    await edge.ask(headers=told | {"X-Forwarded-Proto": "http", "X-Request-ID": "mine"})
    [(_, seen)] = edge.api.asked
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "https"
    assert not {"x-real-ip", "forwarded"} & set(seen)
    assert seen["x-request-id"] != "mine"
    async with edge.connect(headers=told) as device:
        name = str(await device.recv())
    assert edge.hubs[name] == ["127.0.0.1"]

    (tmp_path / "behind").mkdir()
    (tmp_path / "trusted.lst").write_text("127.0.0.0/8\n")
    async with running(tmp_path / "behind", EDGE_TRUSTED_PROXIES=tmp_path / "trusted.lst") as behind:
        await behind.ask(headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.7"})
        [(_, seen)] = behind.api.asked
        assert seen["x-forwarded-for"] == "203.0.113.7", "the last hop's word, not what its client claimed"


async def test_an_address_that_asks_too_much_or_collects_refusals_is_told_to_wait(tmp_path: Path) -> None:
    (tmp_path / "much").mkdir()
    async with running(tmp_path / "much", EDGE_REQUESTS_PER_10S=20) as edge:
        answers = [await edge.ask() for _ in range(25)]
        assert [one.status_code for one in answers] == [200] * 20 + [429] * 5
        assert answers[-1].headers["retry-after"] == "10"
        assert answers[-1].headers["content-type"] == "application/problem+json"
        with pytest.raises(InvalidStatus) as refused:
            async with edge.connect():
                pass
        assert refused.value.response.status_code == 429
    (tmp_path / "wrong").mkdir()
    async with running(tmp_path / "wrong", EDGE_ERRORS_PER_MINUTE=10) as edge:
        assert [(await edge.ask("/api/v1/refused")).status_code for _ in range(12)] == [400] * 11 + [429]


async def test_answers_say_nothing_about_the_inside_and_stay_on_tls(edge: Edge) -> None:
    answer = await edge.ask()
    assert "server" not in answer.headers
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    context = _no_checks()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=context)
    cipher = writer.get_extra_info("cipher")
    assert "GCM" in cipher[0] or "CHACHA" in cipher[0]
    writer.close()
    del reader


async def test_without_anybody_behind_it_is_alive_and_not_ready(tmp_path: Path) -> None:
    async with running(tmp_path) as edge, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{edge.operations}"
        assert (await client.get(f"{url}/ready")).status_code == 200
        assert (await client.get(f"{url}/health")).status_code == 200
        assert (await client.get(f"{url}/other")).status_code == 404
