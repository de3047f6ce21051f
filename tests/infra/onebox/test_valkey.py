"""The embedded Valkey: private, passworded, bounded."""

import stat
from pathlib import Path

import pytest
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from infra.onebox import valkey
from infra.onebox.errors import ServerMissing, ServerNotReady
from infra.onebox.home import Home
from infra.onebox.valkey import EmbeddedValkey
from loadtests.ports import free_port
from tests.conftest import ServerFactory
from tests.servers import ServerProcess


async def test_a_client_without_the_password_is_refused(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with redis.asyncio.Redis(port=server.server.port, retry=Retry(NoBackoff(), 0)) as client:
        with pytest.raises(redis.exceptions.AuthenticationError):
            await client.ping()


async def test_the_password_is_not_on_the_command_line(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    password = server.server.home.password("valkey-password")
    assert password.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert password not in "\n".join(server.server.launch_arguments())
    configuration = server.server.home.path / "valkey" / "valkey.conf"
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o600


async def test_sharded_channels_work_on_a_single_server(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with redis.asyncio.Redis.from_url(server.url) as client:
        assert await client.spublish("fw:{s1}", b"x") == 0


async def test_memory_is_bounded(valkey_server: ServerFactory) -> None:
    server = valkey_server(maxmemory="64mb")
    async with redis.asyncio.Redis.from_url(server.url, decode_responses=True) as client:
        assert (await client.config_get("maxmemory"))["maxmemory"] == str(64 * 1024 * 1024)
        assert (await client.config_get("save"))["save"] == ""


def test_it_starts_again_after_a_kill(home: Home) -> None:
    server = ServerProcess(EmbeddedValkey(home, port=free_port()))
    try:
        server.start()
        server.kill()
        server.start()
    finally:
        server.stop()


async def test_another_server_on_the_port_is_told_apart_and_the_setting_is_named(
    valkey_server: ServerFactory, home: Home
) -> None:
    server = valkey_server()
    with pytest.raises(ServerNotReady, match="FLEETWIRE_VALKEY_PORT"):
        await EmbeddedValkey(home, port=server.server.port).wait_ready(5)


def test_without_the_wheel_a_new_enough_server_on_the_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "_WHEEL", "no_such_wheel")
    monkeypatch.setenv("PATH", str(tmp_path))
    fake_server(tmp_path / "redis-server", "Redis server v=6.2.14 sha=00000000:0")
    with pytest.raises(ServerMissing, match="redis-server 7 or newer"):
        valkey.find_server()
    fake_server(tmp_path / "redis-server", "Redis server v=7.0.15 sha=00000000:0")
    assert valkey.find_server() == tmp_path / "redis-server"


def fake_server(path: Path, version: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)
