"""Ways to a Redis: by name and password, over TLS, over a Unix socket; and URLs that lead nowhere."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shared.bus.client import Endpoint, RedisSettings, client_name, open_redis
from shared.bus.message import EVENT, Message
from shared.hash_slots import slot_of
from shared.settings import SettingsError, load
from tests.certificates import self_signed
from tests.conftest import ServerFactory
from tests.shared.bus.conftest import listening, publishing, until

DEVICE = "truck-7"
SLOT = slot_of(DEVICE)


async def _delivers(url: str) -> None:
    async with listening(url) as ear, publishing(url) as publisher:
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        publisher.offer(Message(EVENT, DEVICE, 1, 1, b"{}"))
        await until(lambda: ear.seqs == [1], "the message arrives")
    redis = open_redis(url, name="a name with blanks")
    try:
        assert await redis.ping()
    finally:
        await redis.aclose()


async def test_messages_go_over_a_unix_socket(valkey_server: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "v.sock"
    server = valkey_server(unixsocket=str(path))
    await _delivers(f"unix://:{urlsplit(server.url).password}@{path}?db=0")


async def test_messages_go_over_tls_to_a_server_that_proves_who_it_is(redis_url: str, tmp_path: Path) -> None:
    async with _behind_tls(redis_url, tmp_path) as (port, ca_file):
        login = urlsplit(redis_url).password
        await _delivers(f"rediss://:{login}@127.0.0.1:{port}/0?ssl_ca_certs={ca_file}")


async def test_a_server_that_cannot_prove_who_it_is_gets_no_password(redis_url: str, tmp_path: Path) -> None:
    async with _behind_tls(redis_url, tmp_path) as (port, _):
        url = f"rediss://:{urlsplit(redis_url).password}@127.0.0.1:{port}/0"
        async with listening(url) as ear:
            ear.reader.acquire(SLOT)
            assert not await ear.reader.wait_confirmed(SLOT, 0.3)
            assert not ear.reader.connected
        await _delivers(url + "?ssl_cert_reqs=none")


async def test_another_database_of_the_server_can_be_chosen(redis_url: str) -> None:
    await _delivers(redis_url.rsplit("/", 1)[0] + "/3")


def test_a_connection_name_is_made_fit_for_redis() -> None:
    assert client_name("hub 1\nü") == "hub_1__"
    assert len(client_name("x" * 300)) == 64


def test_an_endpoint_reads_all_parts_and_shows_no_password() -> None:
    endpoint = Endpoint.from_url("rediss://hub:p%40ss@redis.example:6400/2?ssl_cert_reqs=none")
    assert endpoint == Endpoint(
        host="redis.example", port=6400, username="hub", password="p@ss", database=2, tls=True, tls_verify=False
    )
    assert "p@ss" not in repr(endpoint) + str(endpoint)
    assert str(endpoint) == "rediss://redis.example:6400/2"


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://h:notaport"])
def test_a_wrong_url_is_named_by_its_setting_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_REDIS_URL") as refused:
        load(RedisSettings, {"FLEETWIRE_REDIS_URL": url})
    assert url not in str(refused.value)


@asynccontextmanager
async def _behind_tls(url: str, folder: Path) -> AsyncIterator[tuple[int, Path]]:
    """A TLS front for the server at `url`: its port and the certificate that it proves itself with."""
    certificate, key = self_signed(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    behind = urlsplit(url)
    open_pipes: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(behind.hostname, behind.port)
        for one, other in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(pipe(one, other))
            open_pipes.add(task)
            task.add_done_callback(open_pipes.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], certificate
    finally:
        server.close()
        for task in list(open_pipes):
            task.cancel()
        await asyncio.gather(*open_pipes, return_exceptions=True)


def test_several_addresses_share_what_stands_around_them() -> None:
    endpoints = Endpoint.several("redis://hub:p%2Cw@a:7000,b,[::1]:7002")
    assert [(one.host, one.port) for one in endpoints] == [("a", 7000), ("b", 6379), ("::1", 7002)]
    assert {(one.username, one.password) for one in endpoints} == {("hub", "p,w")}
    assert endpoints[0].at("c", 7009) == Endpoint.from_url("redis://hub:p%2Cw@c:7009")


@pytest.mark.parametrize("url", ["redis://:secret@a:1,b:port", "redis://:secret@a:1,b:70000000"])
def test_one_wrong_address_of_several_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL"):
        Endpoint.several(url)
